"""The benchmark of the advice's own speed runs, on a small folder; how fast, no test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from speedprof.profiler import attribution
from speedprof.profiler.run import PHASES

RANKS, STEPS = 9, 400


@pytest.fixture
def folder(load: Callable[[str], ModuleType], tmp_path: Path) -> Path:
    load("synthetic_records").write(tmp_path / "run", ranks=RANKS, steps=STEPS)
    return tmp_path / "run"


def test_the_made_up_training_is_read_as_it_was_written(
    folder: Path, load: Callable[[str], ModuleType]
) -> None:
    run = attribution.load(folder)
    wanted = dict.fromkeys(PHASES, 0.0)
    for label, percent in load("synthetic_records").SHARES.items():
        wanted[label.partition(".")[0]] += percent / 100
    assert run.notes == []
    assert (run.steps, run.world_size, len(run.machines)) == (STEPS, RANKS, 2)
    assert run.phases is not None
    shares = {name: phase.share for name, phase in run.phases.items()}
    assert shares == pytest.approx(wanted, abs=0.005)
    assert run.communication is not None
    assert run.communication.late_rank == 5


def test_each_part_of_the_advice_is_timed_apart(
    folder: Path, load: Callable[[str], ModuleType]
) -> None:
    bench = load("advice_speed")
    result = bench.measure(folder, 2)
    assert all(result[f"{part}_wall_s"].rounds == 2 for part in ("load", "judge", "advise"))
    assert "straggler" in result["findings"]
    assert result["remedies"]
    said = bench.line({"ranks": RANKS, "steps": STEPS, "bytes": 1e6, **result})
    assert said.startswith("9 ranks, 400 steps, 1 MB: load ")
