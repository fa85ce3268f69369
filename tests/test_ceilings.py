"""What the step would be without a phase: a range that holds what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from runs import loader, phases, run

from speedprof.profiler.ceilings import STALLS, Ceiling, ceilings, without_stalls
from speedprof.profiler.run import PHASES, Communication, Run

shares = some.lists(some.floats(0.0, 1.0), min_size=6, max_size=6).filter(lambda p: sum(p) > 0.01)


def of(step_ms: float, **stalls: float) -> Run:
    return run(phases=phases(step_ms, **stalls), step_ms=step_ms, device="cuda")


def test_the_range_holds_what_a_published_pair_of_traces_measured() -> None:
    found = ceilings(of(177.59, data_loading=59.26 / 177.59, host=0.1))["data_loading"]
    assert found.low_ms == pytest.approx(118.33)
    assert found.low_ms < 141.07 < found.high_ms < 145
    assert found.speedup_low == pytest.approx(1.25, abs=0.005)
    assert found.speedup_high == pytest.approx(1.50, abs=0.005)


def test_a_small_phase_does_not_slow_down_the_whole_step() -> None:
    found = ceilings(of(100.0, data_loading=0.05))["data_loading"]
    assert (found.low_ms, found.high_ms) == pytest.approx((95.0, 97.0))


def test_a_step_of_nothing_but_loading_ends_with_a_finite_ratio() -> None:
    found = ceilings(of(100.0, data_loading=1.0))["data_loading"]
    assert found.speedup_high == pytest.approx(1000.0)


def test_a_faster_link_does_not_hurry_a_late_rank() -> None:
    spent = Communication(total_ms=50.0, exposed_ms=40.0, transfer_ms=10.0, waiting_ms=30.0)
    late = run({"communication": 0.4}, communication=spent)
    found = ceilings(late)["communication"]
    assert found.low_ms == pytest.approx(60.0)
    assert found.high_ms == pytest.approx(94.0)  # 10 ms of transfer go, 4 of them come back


def test_workers_that_are_too_slow_show_once_another_phase_is_gone() -> None:
    fed = loader(num_workers=2, getitem_ms=150.0, collate_ms=10.0)
    found = ceilings(run({"host": 0.5}, loaders=[fed]))["host"]
    assert found.low_ms == pytest.approx(80.0)
    assert found.high_ms >= found.low_ms


def test_a_phase_that_takes_nothing_has_no_ceiling() -> None:
    assert list(ceilings(of(100.0, host=0.3))) == ["host"]


def test_nothing_is_said_of_a_step_that_was_not_seen() -> None:
    unseen = run(phases=None)
    assert ceilings(unseen) == {}
    assert without_stalls(unseen) is None


def test_computing_alone_is_the_bound_of_all_stalls_together() -> None:
    alone = without_stalls(of(100.0, host=0.3, data_loading=0.2))
    assert alone is not None
    assert alone.low_ms == pytest.approx(50.0)
    assert alone.speedup_high == pytest.approx(2.0)


@given(shares, some.floats(0.01, 1e6))
def test_no_ceiling_is_slower_than_the_step_or_faster_than_its_best_case(
    parts: list[float], step_ms: float
) -> None:
    whole = sum(parts)
    named = {name: part / whole for name, part in zip(PHASES, parts, strict=True)}
    made = of(step_ms, **named)
    for name, found in ceilings(made).items():
        assert name in STALLS
        _is_a_range(found, step_ms)
        assert found.low_ms >= step_ms * (1 - named[name]) * (1 - 1e-9)


def _is_a_range(found: Ceiling, step_ms: float) -> None:
    slack = 1e-9 * step_ms
    assert 0 < found.low_ms <= found.high_ms + slack
    assert found.high_ms <= step_ms + slack
    assert 1 - 1e-9 <= found.speedup_low <= found.speedup_high + 1e-9
