"""Step times of two runs: what the interval covers, and what it lets us say."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import numpy as np
import pytest

from speedprof.profiler import comparison, record, run_folder
from speedprof.profiler.comparison import Floats
from speedprof.profiler.errors import SpeedprofError


def _series(seed: int, steps: int = 300, *, mean: float = 40.0, carried: float = 0.0) -> Floats:
    """Return steps that spread by 5 %, each carrying over a part of the one before (AR(1))."""
    noise = np.random.default_rng(seed).normal(size=steps + 100)
    level = 0.0
    wall = []
    for one in noise:
        level = carried * level + one * np.sqrt(1 - carried**2)
        wall.append(mean * np.exp(0.05 * level))
    return np.stack([np.array(wall[100:]), np.ones(steps)], axis=1)


@pytest.mark.parametrize(("carried", "least"), [(0.0, 0.88), (0.5, 0.84), (0.8, 0.80)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(
    carried: float, least: float
) -> None:
    held = [
        result.low <= 1 <= result.high
        for seed in range(150)
        for result in [
            comparison.ratio_of(
                _series(2 * seed, carried=carried), _series(2 * seed + 1, carried=carried)
            )
        ]
    ]
    assert least <= np.mean(held) <= 0.99


def test_steps_that_hang_together_widen_the_interval() -> None:
    apart = comparison.ratio_of(_series(1), _series(2))
    together = comparison.ratio_of(_series(1, carried=0.9), _series(2, carried=0.9))
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert comparison.block_length(_series(1)[:, 0]) < 4
    assert comparison.block_length(_series(1, carried=0.9)[:, 0]) > 8


def test_a_slower_run_is_told_and_measured() -> None:
    result = comparison.ratio_of(_series(1), _series(2, mean=44.0))
    assert result.low < 1.1 < result.high
    assert result.slower_by_more_than(0.05)
    assert not result.slower_by_more_than(0.10)
    turned = comparison.ratio_of(_series(2, mean=44.0), _series(1))
    assert turned.ratio == pytest.approx(1 / result.ratio)
    assert turned.low == pytest.approx(1 / result.high)


def test_noise_fails_no_build() -> None:
    alarms = [
        comparison.ratio_of(
            _series(2 * seed, steps=60, carried=0.8), _series(2 * seed + 1, steps=60, carried=0.8)
        ).slower_by_more_than(0.05)
        for seed in range(200)
    ]
    assert sum(alarms) <= 2


def test_rows_that_sum_up_steps_count_for_as_many() -> None:
    single = _series(1, steps=400)
    summed = np.concatenate([single[:200], single[200:].reshape(100, 2, 2).sum(axis=1)])
    one, other = (comparison.ratio_of(rows, _series(2)) for rows in (single, summed))
    assert other.old_steps == one.old_steps == 400
    assert other.ratio == pytest.approx(one.ratio)


def test_a_million_steps_are_compared_like_a_thousand() -> None:
    long = np.tile(_series(1, steps=1000), (170, 1))
    assert comparison.ratio_of(long, long).ratio == 1.0


def test_steps_that_never_vary_have_an_interval_of_nothing() -> None:
    still = np.tile([40.0, 1.0], (50, 1))
    result = comparison.ratio_of(still, still)
    assert (result.low, result.ratio, result.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("freedom", "table"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e6, 1.960)]
)
def test_quantiles_are_those_of_the_tables(freedom: float, table: float) -> None:
    assert comparison.student(freedom) == pytest.approx(table, rel=0.015)


def _recorded(
    folder: Path, walls_ms: list[int], *, warmup: int = 2, traced: int = 0, kind: str = "run"
) -> Path:
    """Write a run whose first `traced` steps after warm-up were traced."""
    folder.mkdir()
    run_folder.write(folder / run_folder.START, {"options": {"warmup": warmup}, "kind": kind})
    writer = record.Writer(str(folder / "rank-h-1.rec"))
    for step, wall in enumerate(walls_ms):
        values = {"count": 1, "wall": wall * 10**6}
        if warmup <= step < warmup + traced:
            values["flags"] = record.TRACED
        writer.rows(array("q", [values.get(name, 0) for name in record.STEP_COLUMNS]))
    writer.close()
    return folder


def test_warm_up_and_traced_steps_are_left_out(tmp_path: Path) -> None:
    folder = _recorded(tmp_path / "a", [900, 900, 500, 500, 500, *[40] * 20], traced=3)
    rows = comparison.steps_of(folder)
    assert rows.tolist() == [[40.0, 1.0]] * 20


def test_the_rank_with_most_steps_speaks(tmp_path: Path) -> None:
    folder = _recorded(tmp_path / "a", [40] * 30)
    (folder / "rank-h-2.rec").write_bytes(b"garbage")
    assert len(comparison.steps_of(folder)) == 28


def test_too_few_steps_are_not_compared(tmp_path: Path) -> None:
    few, many = _recorded(tmp_path / "few", [40] * 8), _recorded(tmp_path / "many", [40] * 40)
    with pytest.raises(SpeedprofError, match="few has 6 untraced steps after warm-up, too few"):
        comparison.compare(many, few)


def _trace(folder: Path, walls_ms: list[int]) -> Path:
    return _recorded(folder, walls_ms, warmup=0, traced=len(walls_ms), kind="trace")


def test_the_few_steps_of_recorded_traces_are_compared(tmp_path: Path) -> None:
    old = _trace(tmp_path / "a", [178, 175, 180, 174, 182, 176])
    new = _trace(tmp_path / "b", [141, 126, 127, 143, 131, 139])
    result = comparison.compare(old, new)
    assert result.old_steps == result.new_steps == 6
    assert result.low < result.ratio < result.high < 1.0


def test_two_recorded_steps_are_too_few(tmp_path: Path) -> None:
    few, many = _trace(tmp_path / "few", [40] * 2), _trace(tmp_path / "many", [40] * 8)
    with pytest.raises(SpeedprofError, match="few has 2 recorded steps, too few to compare"):
        comparison.compare(few, many)


def test_a_trace_is_not_compared_with_a_run(tmp_path: Path) -> None:
    trace, live = _trace(tmp_path / "trace", [40] * 8), _recorded(tmp_path / "live", [40] * 40)
    with pytest.raises(SpeedprofError, match="compare traces with traces"):
        comparison.compare(trace, live)


def test_a_damaged_start_leaves_the_usual_warm_up(tmp_path: Path) -> None:
    folder = _recorded(tmp_path / "a", [40] * 30)
    (folder / run_folder.START).write_text(json.dumps([]))
    assert len(comparison.steps_of(folder)) == 30 - comparison.DEFAULT_WARMUP
