"""The synthetic traces are what they claim to be, and the benchmark's lines say what it found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from speedprof.profiler import trace_file, trace_run, trace_set
from speedprof.profiler.attribution import load as load_run
from speedprof.profiler.run import Run


def analyzed(traces: Path, folder: Path) -> Run:
    folder.mkdir()
    refused = trace_set.analyze(
        trace_run.sources([traces]), folder, name="made", version="0", progress=lambda _: None
    )
    assert not refused
    return load_run(folder)


def test_a_synthetic_trace_is_whole_json_with_linked_launches(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    made, steps = load("synthetic_traces"), load("synthetic_steps")
    path = tmp_path / "made.json"
    written = made.write(path, steps.Training(layers=2), steps=40)
    events = json.loads(path.read_text())["traceEvents"]
    assert (len(events), path.stat().st_size) == (written.events, written.bytes)
    kinds = Counter(event["cat"] for event in events)
    assert kinds["cuda_runtime"] == kinds["kernel"] + kinds["gpu_memcpy"]
    assert kinds["ac2g"] == 2 * kinds["cuda_runtime"]
    launched = {e["args"]["correlation"]: e for e in events if e["cat"] == "cuda_runtime"}
    assert len(launched) == kinds["cuda_runtime"]  # no correlation twice
    for event in events:
        if event["cat"] in {"kernel", "gpu_memcpy"}:
            assert event["ts"] > launched[event["args"]["correlation"]]["ts"]


def test_a_synthetic_trace_is_read_with_its_steps_and_phases(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    made, steps = load("synthetic_traces"), load("synthetic_steps")
    path = tmp_path / "made.json"
    made.write(path, steps.Training(layers=3), steps=20)
    run = analyzed(path, tmp_path / "run")
    assert run.steps == 20
    assert run.phases is not None
    phases = {name: phase.ms for name, phase in run.phases.items()}
    assert sum(phases.values()) == pytest.approx(run.step_ms.mean_ms, rel=1e-3)
    assert phases["communication"] == 0
    copied_ms = steps.BATCH_BYTES / 24.1e6
    assert phases["host_to_device"] == pytest.approx(copied_ms, abs=0.01)
    kernels = 2 * 3 + 3 * 3 + 8  # forward and backward of each layer, optimizer
    assert phases["compute"] == pytest.approx(kernels * steps.KERNEL_US / 1e3, abs=0.01)
    assert phases["data_loading"] > 0.2


def test_the_rank_whose_batch_comes_last_is_the_one_waited_for(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    made, steps = load("synthetic_traces"), load("synthetic_steps")
    folder = tmp_path / "ranks"
    folder.mkdir()
    for rank in range(3):
        training = steps.Training(layers=2, rank=rank, world_size=3)
        made.write(folder / f"rank-{rank}.json", training, steps=12)
    run = analyzed(folder, tmp_path / "run")
    assert (len(run.ranks), run.world_size, run.steps) == (3, 3, 12)
    assert run.communication is not None
    assert run.communication.late_rank == 2
    lengths = [rank.step_ms.median_ms for rank in run.ranks if rank.step_ms is not None]
    assert lengths == pytest.approx([lengths[0]] * 3, abs=0.001)
    assert run.communication.transfer_ms == pytest.approx(steps.TRANSFER_US / 1e3, rel=0.01)


@pytest.mark.parametrize("size", [2e5, 3e6])
def test_a_size_that_is_asked_for_is_about_what_is_written(
    load: Callable[[str], ModuleType], tmp_path: Path, size: float
) -> None:
    made, steps = load("synthetic_traces"), load("synthetic_steps")
    training = steps.Training(layers=4)
    count = made.steps_of(size, training)
    written = made.write(tmp_path / "made.json", training, steps=count)
    assert written.bytes == pytest.approx(size, rel=0.1)
    assert 200 < written.bytes / written.events < 300


def test_a_trace_of_no_step_is_refused(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    made, steps = load("synthetic_traces"), load("synthetic_steps")
    with pytest.raises(ValueError, match="one step"):
        made.write(tmp_path / "made.json", steps.Training(), steps=0)


def test_a_copy_of_more_than_two_gibibytes_keeps_its_size(tmp_path: Path) -> None:
    size = 5 << 30
    copy = {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD", "pid": 0, "tid": 7}
    copy |= {"ts": 5.0, "dur": 9.0, "args": {"bytes": size, "stream": 7, "correlation": 1 << 40}}
    path = tmp_path / "t.json"
    path.write_text(json.dumps([copy, {**copy, "args": {"bytes": 1 << 60, "stream": "7"}}]))
    trace = trace_file.read(path)
    assert trace.event["bytes"].tolist() == [size, (1 << 60) % (1 << 52)]
    assert trace.event["correlation"].tolist() == [1 << 40, 0]
    assert trace.event["stream"].tolist() == [7, 7]


def took(
    load: Callable[[str], ModuleType], seconds: float, mib: float = 100.0, **more: Any
) -> Any:
    return load("analyze").Ran(wall_s=seconds, cpu_s=seconds, peak_mib=mib, **more)


def test_the_ratios_are_of_neighbouring_rounds(load: Callable[[str], ModuleType]) -> None:
    ours = [took(load, seconds) for seconds in (1.0, 2.0, 1.0)]
    inside = [took(load, 1.0, work_s=work) for work in (0.5, 1.0, 0.5)]
    theirs = [took(load, 5.0, 300.0, work_s=work) for work in (4.0, 8.0, 4.0)]
    found = load("analyze").compared(
        {"speedprof": ours, "speedprof, imported": inside, "HTA": theirs}
    )
    assert found["ratio_without_imports"].median == 8.0
    assert found["ratio_of_commands"].median == 5.0
    assert found["ratio_command_to_hta_without_imports"].median == 4.0
    assert (found["peak_mib"], found["hta_peak_mib"]) == (100.0, 300.0)


@pytest.mark.parametrize(
    ("seconds", "mib", "said"),
    [(1.0, 200.0, "1.5 s met, 250 MiB met"), (1.6, 260.0, "1.5 s MISSED, 250 MiB MISSED")],
)
def test_each_figure_stands_beside_its_bar(
    load: Callable[[str], ModuleType], seconds: float, mib: float, said: str
) -> None:
    analyze = load("analyze")
    found = {name: [took(load, seconds, mib, work_s=1.0)] for name in analyze.TOOLS}
    lines = load("analyze_tables").paired_lines(
        {"trace": "t.json", "hta": analyze.HTA, **analyze.compared(found)}
    )
    assert said in lines
    assert lines.count("4 MISSED") == 3  # as fast is not four times as fast


@pytest.mark.parametrize(
    ("seconds", "growth"), [((1.0, 2.0, 5.0), 1.0), ((1.0, 2.0, 9.0), 2.0), ((1.0, 2.0), None)]
)
def test_growth_is_one_where_time_is_linear_in_events(
    load: Callable[[str], ModuleType], seconds: tuple[float, ...], growth: float | None
) -> None:
    events = (100, 200, 500)[: len(seconds)]
    results = [
        {"events": count, "took": took(load, spent)}
        for count, spent in zip(events, seconds, strict=True)
    ]
    assert load("analyze").growth(results) == growth


@pytest.mark.slow
def test_the_command_is_measured_from_outside_and_inside(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    analyze = load("analyze")
    (size,) = analyze.sizes([3e6], tmp_path)
    assert size["bytes"] == pytest.approx(3e6, rel=0.2)
    assert size["took"].peak_mib > 10
    (ranks,) = analyze.ranks({3: 2}, tmp_path)
    assert ranks["took"].own_mib > 10
    assert ranks["took"].work_s < ranks["took"].wall_s
    assert not list(tmp_path.glob("*ranks*"))
    assert not list(tmp_path.glob("synthetic*"))
