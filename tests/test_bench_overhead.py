"""The overhead benchmark runs, in a tiny configuration; how fast it all is, no test says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_an_estimate_holds_its_median_within_its_interval(
    load: Callable[[str], ModuleType],
) -> None:
    found = load("pairs").estimate([1.0, 2.0, 3.0, 4.0, 100.0])
    assert found.median == 3.0
    assert 1.0 <= found.low <= 3.0 <= found.high <= 100.0


def test_nothing_measured_has_no_median(load: Callable[[str], ModuleType]) -> None:
    with pytest.raises(ValueError, match="no rounds"):
        load("pairs").estimate([])


def test_every_second_round_goes_backwards(load: Callable[[str], ModuleType]) -> None:
    order = list(load("pairs").interleaved(("bare", "ours"), 3))
    assert [name for _, name in order] == ["bare", "ours", "ours", "bare", "bare", "ours"]


def test_the_same_steps_are_trained_with_and_without_probes(
    load: Callable[[str], ModuleType],
) -> None:
    result = load("always_on").measure(1, workers=0, count=2)
    assert result["added_us"].rounds == 2
    assert result["bare_us"] > 0


def test_a_marked_loop_is_the_one_that_steps(load: Callable[[str], ModuleType]) -> None:
    script = (
        '"""A script."""\nfrom __future__ import annotations\n'
        "def train(model, optimizer):\n"
        "    for epoch in range(2):\n"
        "        for batch in range(3):\n"
        "            optimizer.step()\n"
        "        print(epoch)\n"
    )
    code = load("watched").marked(script, "train.py")
    marks, entered = [], []
    given = {"traceml_ai": None}

    class Peer(ModuleType):
        def init(self) -> None:
            marks.append("init")

        def trace_step(self, model: object) -> Peer:
            return self

        def __enter__(self) -> None:
            entered.append(1)

        def __exit__(self, *_: object) -> None:
            return None

    class Optimizer:
        def step(self) -> None:
            marks.append("step")

    sys.modules["traceml_ai"] = Peer("traceml_ai")
    try:
        exec(code, given)
        given["train"](None, Optimizer())  # type: ignore[misc]
    finally:
        del sys.modules["traceml_ai"]
    assert marks == ["init"] + ["step"] * 6
    assert len(entered) == 6


@pytest.mark.slow
def test_a_whole_command_is_measured_bare_and_under_us(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    tools, controlled = load("tools"), load("controlled")
    script = tools.Script(
        name="tiny",
        path=Path(controlled.__file__),
        arguments=("--rows", "8", "--width", "32", "--steps", "90"),
    )
    bare = tools.start(script, "bare", tmp_path / "bare")
    ours = tools.start(script, "speedprof", tmp_path / "ours")
    assert bare.steps == ours.steps == 90
    assert not bare.windows_ms
    assert ours.windows_ms
    assert min(bare.first_s, bare.last_s, bare.median_us, bare.peak_kib) > 0


@pytest.mark.slow
def test_an_example_can_be_measured_on_and_off_in_one_run(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    tools = load("tools")
    script = tools.Script(
        name="charlm",
        path=BENCHMARKS.parent / "examples" / "charlm.py",
        arguments=("--steps", "12", "--width", "16", "--layers", "1", "--batch-size", "2"),
    )
    ends, on = tools.toggle(script, tmp_path / "toggled", every=4)
    assert len(ends) == 12
    assert on == [False] * 4 + [True] * 4 + [False] * 4


def test_a_record_of_many_steps_is_played(load: Callable[[str], ModuleType]) -> None:
    result = load("record_size").simulate(3_000)
    assert result["bytes"] > 3_000
    assert result["steps"] == 3_000


@pytest.mark.slow
def test_the_record_part_writes_its_results(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "overhead.py"), "--part", "record", "--quick"]
    command += ["--out", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MiB met" in done.stdout
    assert '"cores"' in (tmp_path / "record.json").read_text()
