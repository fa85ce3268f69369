"""Predicted gains: ceilings, Amdahl's law and the model of a loader with k workers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from speedprof.mitigations.gains import (
    Pipeline,
    amdahl,
    best_workers,
    careful_step,
    ceiling,
    copied_pinned,
    decoded_elsewhere,
    hopeful_step,
    overlapped,
    rarer,
    removing,
    speeding_up,
    workers_gain,
)
from speedprof.profiler.ceilings import COMPETITION


def pipeline(**times: float) -> Pipeline:
    """Return 100 ms of step, 60 of them making batches in the training thread, on two cores."""
    base = Pipeline(
        now_ms=100.0, workers=0, rest_ms=40.0, cpu_ms=60.0, waiting_ms=0.0, handoff_ms=0.5,
        cores=2.0, rest_cores=1.0,
    )  # fmt: skip
    return replace(base, **times)  # type: ignore[arg-type]


shares = some.tuples(some.floats(0.0, 1.0), some.floats(0.0, 1.0)).map(
    lambda pair: (min(pair), max(pair))
)
pipelines = some.builds(
    Pipeline,
    now_ms=some.just(100.0),
    workers=some.just(0),
    rest_ms=some.floats(0.1, 99.0),
    cpu_ms=some.floats(0.0, 500.0),
    waiting_ms=some.floats(0.0, 500.0),
    handoff_ms=some.floats(0.0, 20.0),
    cores=some.floats(1.0, 64.0),
    rest_cores=some.floats(1.0, 64.0),
)


def test_removing_half_of_the_step_at_best_doubles_the_speed() -> None:
    assert ceiling(0.5) == pytest.approx(2.0)


def test_removing_all_of_the_step_is_not_an_infinite_gain() -> None:
    assert ceiling(1.0) == pytest.approx(100.0)


def test_amdahl_is_the_ceiling_for_an_endless_speedup() -> None:
    assert amdahl(0.5, 2.0) == pytest.approx(4 / 3)
    assert amdahl(0.5, 1e12) == pytest.approx(ceiling(0.5))


def test_a_range_follows_from_the_shares_interval() -> None:
    gain = removing(0.4, 0.5, what="waiting")
    assert (gain.low, gain.high) == (pytest.approx(1 / 0.6), pytest.approx(2.0))
    assert "40 to 50 %" in gain.model


def test_a_range_follows_from_the_published_speedups() -> None:
    gain = speeding_up(0.5, 1.0, 2.0, what="products")
    assert (gain.low, gain.high) == (pytest.approx(1.0), pytest.approx(4 / 3))


def test_the_step_with_workers_is_never_shorter_than_its_other_phases() -> None:
    assert hopeful_step(pipeline(cores=64.0), 32) == pytest.approx(40.5)


def test_waiting_for_storage_is_shared_by_more_workers_than_there_are_cores() -> None:
    reading = pipeline(cpu_ms=4.0, waiting_ms=200.0, rest_ms=20.0)
    assert hopeful_step(reading, 4) == pytest.approx(52.0)


def test_computing_is_shared_by_no_more_workers_than_there_are_cores() -> None:
    assert careful_step(pipeline(cpu_ms=200.0), 8) == careful_step(pipeline(cpu_ms=200.0), 2)


def test_the_published_pair_of_traces_lies_inside_the_predicted_range() -> None:
    """ResNet-50 on a V100, 0 to 4 workers: 177.6 ms, 118.3 without loading, 141.1 measured."""
    v100 = Pipeline(
        now_ms=177.6, workers=0, rest_ms=118.3, cpu_ms=59.3, waiting_ms=0.0, handoff_ms=0.5,
        cores=8.0, rest_cores=1.0,
    )  # fmt: skip
    gain = workers_gain(v100, 4)
    assert gain.low <= 177.6 / 141.1 <= gain.high
    assert gain.high <= 177.6 / 118.3


def test_a_jpeg_folder_on_two_cores_lies_inside_the_predicted_range() -> None:
    """0 to 2 workers: 121 ms, 70 % of it loading, to 71 ms; both cores compute in the rest."""
    folder = pipeline(now_ms=121.0, rest_ms=36.0, cpu_ms=85.0, rest_cores=2.0)
    gain = workers_gain(folder, 2)
    assert gain.low <= 121.0 / 71.0 <= gain.high


def test_more_workers_on_two_busy_cores_gain_nothing() -> None:
    loaded = pipeline(workers=2, now_ms=71.0, rest_ms=36.0, cpu_ms=85.0, rest_cores=2.0)
    assert best_workers(loaded, 8) <= 2
    assert workers_gain(loaded, 8).high < 1.03


def test_workers_gain_little_where_the_step_computes_on_all_cores() -> None:
    busy = pipeline(rest_ms=90.0, cpu_ms=10.0, rest_cores=2.0)
    gain = workers_gain(busy, 2)
    assert gain.low < 1.0
    assert gain.high < 1.15


def test_one_core_leaves_nothing_to_gain_from_workers() -> None:
    assert workers_gain(pipeline(cores=1.0), 1).high == pytest.approx(1.0)


def test_no_more_workers_are_proposed_than_pay() -> None:
    assert best_workers(pipeline(rest_ms=80.0, cpu_ms=20.0, cores=16.0), 16) == 1


@given(pipelines, some.integers(1, 64))
def test_the_careful_step_is_not_shorter_than_the_hopeful_one(model: Pipeline, k: int) -> None:
    assert careful_step(model, k) >= hopeful_step(model, k)


@given(pipelines, some.integers(1, 32))
def test_more_workers_never_make_the_predicted_supply_slower(model: Pipeline, k: int) -> None:
    assert hopeful_step(model, k + 1) <= hopeful_step(model, k) + 1e-9


@given(pipelines, some.integers(1, 32))
def test_a_gain_is_an_ordered_range(model: Pipeline, k: int) -> None:
    gain = workers_gain(model, k)
    assert 0.0 < gain.low <= gain.high


@given(shares, some.integers(1, 1000))
def test_rarer_work_gains_no_more_than_work_that_is_left_out(
    pair: tuple[float, float], every: int
) -> None:
    gain = rarer(*pair, every, what="working")
    assert 0.0 < gain.low <= gain.high <= ceiling(pair[1])


def test_work_done_once_in_two_steps_is_halved() -> None:
    gain = rarer(0.4, 0.4, 2, what="working")
    assert gain.high == pytest.approx(1 / 0.8)
    assert gain.low == pytest.approx(1 / (0.8 + 0.4 * 0.2))


def test_rarer_work_has_a_narrow_range_however_large_its_share_is() -> None:
    gain = rarer(0.97, 0.98, 50, what="working")
    assert gain.high / gain.low < 2.0


def test_a_wait_of_nearly_all_of_the_step_hides_behind_nothing() -> None:
    """42 of 44 ms are waited: asked for a step ahead, they still take 42 ms."""
    gain = overlapped(0.95, 0.95, what="waiting")
    assert gain.high == pytest.approx(1 / 0.95)


def test_two_halves_beside_each_other_take_half_as_long_at_best() -> None:
    gain = overlapped(0.5, 0.5, what="waiting")
    assert (gain.low, gain.high) == (pytest.approx(1 / 0.6), pytest.approx(2.0))


def test_eight_answers_at_once_take_an_eighth_of_the_wait_or_a_quarter() -> None:
    gain = overlapped(0.96, 0.96, what="waiting", at_once=8)
    assert (gain.low, gain.high) == (pytest.approx(1 / 0.24), pytest.approx(1 / 0.12))


@given(shares)
def test_doing_it_meanwhile_gains_at_most_what_leaving_it_out_does(
    pair: tuple[float, float],
) -> None:
    gain = overlapped(*pair, what="waiting")
    assert 1.0 <= gain.low <= gain.high <= min(2.0, max(ceiling(pair[1]), ceiling(pair[0]))) + 1e-9


def test_decoding_elsewhere_follows_the_ratio_of_the_roofs() -> None:
    gain = decoded_elsewhere(0.6, 3.0, what="decoding")
    assert (gain.low, gain.high) == (pytest.approx(1 / 0.8), pytest.approx(1 / 0.6))
    assert "3" in gain.model


def test_an_engine_that_decodes_no_faster_gains_nothing() -> None:
    gain = decoded_elsewhere(0.6, 0.8, what="decoding")
    assert (gain.low, gain.high) == (1.0, 1.0)


@given(shares, some.floats(0.01, 100.0))
def test_decoding_elsewhere_is_worth_at_most_its_ceiling(
    pair: tuple[float, float], ratio: float
) -> None:
    gain = decoded_elsewhere(pair[1], ratio, what="decoding")
    assert 1.0 <= gain.low <= gain.high <= ceiling(pair[1])


def test_a_copy_at_the_speed_of_pinned_memory_leaves_its_part() -> None:
    gain = copied_pinned(0.4, 0.4, at_speed=0.25, overlapped=False)
    assert (gain.low, gain.high) == (pytest.approx(1 / 0.7), pytest.approx(1 / 0.7))


def test_a_copy_that_overlaps_may_vanish() -> None:
    assert copied_pinned(0.4, 0.4, at_speed=0.25, overlapped=True).high == ceiling(0.4)


def test_without_a_roof_two_fifths_of_the_copy_go_at_least() -> None:
    gain = copied_pinned(0.5, 0.5, at_speed=None, overlapped=True)
    assert gain.low == pytest.approx(1 / 0.8)


@given(shares, some.none() | some.floats(0.0, 2.0), some.booleans())
def test_pinning_is_worth_at_most_the_whole_copy(
    pair: tuple[float, float], at_speed: float | None, overlapped: bool
) -> None:
    gain = copied_pinned(*pair, at_speed=at_speed, overlapped=overlapped)
    assert 1.0 <= gain.low <= gain.high <= ceiling(pair[1])


@given(pipelines, some.integers(1, 64), some.floats(0.0, 500.0))
def test_no_number_of_workers_reads_faster_than_the_storage(
    model: Pipeline, k: int, storage_ms: float
) -> None:
    assert hopeful_step(replace(model, storage_ms=storage_ms), k) >= storage_ms


@given(shares, some.integers(1, 1000))
def test_on_the_same_cores_the_rest_may_run_faster_by_what_it_may_slow_down(
    pair: tuple[float, float], every: int
) -> None:
    apart = rarer(*pair, every, what="working")
    beside = rarer(*pair, every, what="working", same_cores=True)
    assert beside.low == apart.low
    assert apart.high <= beside.high <= apart.high * (1.0 + COMPETITION) + 1e-9
