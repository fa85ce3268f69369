"""The GPU checks: what of them needs no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "no CUDA device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_fails_is_said_and_the_next_one_goes_on(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    gpu, tools = load("gpu"), load("tools")

    def breaks(bench: object) -> dict[str, object]:
        raise tools.CommandError("it ended with 1")

    def holds(bench: object) -> dict[str, object]:
        return {"right": True}

    results = gpu.check_all(gpu.Bench(tmp_path), (breaks, holds))
    assert results["breaks"]["right"] is False
    assert results["breaks"]["why"] == "it ended with 1"
    assert results["holds"]["right"] is True


def test_both_clocks_are_paired_by_the_steps_start(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    gpu = load("gpu")
    window = {"starts": [100, 200], "boundaries": [110, 215, 300]}
    (tmp_path / "window-host-1-0.json").write_text(json.dumps(window))
    assert gpu._device_steps(tmp_path) == {100: 105, 200: 85}


def test_the_line_that_waits_is_the_one_that_is_looked_for(
    load: Callable[[str], ModuleType],
) -> None:
    number = load("gpu_training").waiting_line()
    line = (BENCHMARKS / "gpu_training.py").read_text().splitlines()[number - 1]
    assert line.strip().startswith("loss.item()")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["launch", "host-sleep"])
def test_a_way_trains_without_a_gpu_too(
    load: Callable[[str], ModuleType], tmp_path: Path, way: str
) -> None:
    gpu = load("gpu")
    ran = gpu.Bench(tmp_path, device="cpu").under(way, ms=2.0, steps=20)
    assert len(ran.truth["ends"]) == 20
    assert len(ran.rows) == ran.run.steps == 20
    assert set(gpu._verdict(ran.run)) == {"phase", "cause", "phases"}
