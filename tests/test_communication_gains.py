"""Predicted gains of exchanging less, less often, or better hidden."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from speedprof.mitigations.communication_gains import (
    WIDEST,
    best_cap,
    better_hidden,
    exposed_floor,
    fixed_part,
    less_between_nodes,
    rarer,
    smaller,
)

share = some.floats(0.0, 0.95)
ms = some.floats(0.1, 1e4)


def test_one_exchange_of_four_leaves_a_quarter() -> None:
    gain = rarer(0.4, 0.4, 4)
    assert gain.high == pytest.approx(1.0 / (1.0 - 0.75 * 0.4))
    assert gain.low == pytest.approx(1.0 / (1.0 - 0.7 * 0.75 * 0.4))
    assert "52 to 75 %" in gain.model


def test_exchanging_each_time_gains_nothing() -> None:
    assert rarer(0.4, 0.5, 1).high == pytest.approx(1.0)


def test_half_the_bytes_save_at_most_half_of_the_exchange() -> None:
    gain = smaller(0.4, 0.4, ratio=2.0, fixed=0.0, coding=0.1)
    assert gain.high == pytest.approx(1.0 / (1.0 - 0.5 * 0.4))
    assert gain.low == pytest.approx(1.0 / (1.0 - 0.4 * 0.4))


def test_no_bytes_matter_where_latency_is_all() -> None:
    assert fixed_part(transfer_ms=1.0, collectives=100.0) == 1.0
    assert smaller(0.4, 0.4, ratio=2.0, fixed=1.0, coding=0.0).low == pytest.approx(1.0)


@given(low=share, more=some.floats(0.0, 0.04), ratio=some.floats(1.0, 1e3), coding=share)
def test_ranges_are_ordered_below_the_ceiling_and_not_wide(
    low: float, more: float, ratio: float, coding: float
) -> None:
    for gain in (
        smaller(low, low + more, ratio=ratio, fixed=0.1, coding=coding),
        rarer(low, low + more, ratio),
    ):
        assert 1.0 <= gain.low <= gain.high <= WIDEST * gain.low
        assert gain.high <= 1.0 / (1.0 - low - more) + 1e-9


def test_one_bucket_hides_nothing() -> None:
    assert exposed_floor(30.0, 100.0, 1) == pytest.approx(30.0)


def test_a_long_backward_hides_all_but_the_last_bucket() -> None:
    assert exposed_floor(30.0, 100.0, 10) == pytest.approx(3.0)


def test_a_short_backward_hides_only_what_it_lasts() -> None:
    assert exposed_floor(100.0, 20.0, 10) == pytest.approx(82.0)


@given(total=ms, backward=ms, buckets=some.integers(1, 500))
def test_what_stays_exposed_agrees_with_buckets_sent_one_by_one(
    total: float, backward: float, buckets: int
) -> None:
    free = 0.0  # when the link is free again
    for bucket in range(1, buckets + 1):
        ready = backward * bucket / buckets
        free = max(free, ready) + total / buckets
    assert exposed_floor(total, backward, buckets) == pytest.approx(free - backward, abs=1e-6)


def test_buckets_get_smaller_where_one_carries_everything() -> None:
    cap, exposed = best_cap(40.0, 100.0, 400 << 20, cap_mb=1000.0)
    assert cap < 50
    assert exposed < 4.0


def test_buckets_get_larger_where_many_cost_their_latency() -> None:
    now = 400 / 5 * 0.1 + 4.0  # eighty buckets of 5 MB, 4 ms of bytes
    cap, _ = best_cap(now, 2.0, 400 << 20, cap_mb=5.0)
    assert cap > 25


def test_what_cannot_be_hidden_is_not_promised() -> None:
    assert better_hidden(40.0, 40.0, 100.0).high == pytest.approx(1.0)
    assert better_hidden(40.0, 10.0, 100.0).high == pytest.approx(1.0 / 0.85)


def test_two_replicas_send_a_third_between_nodes() -> None:
    assert less_between_nodes(2) == pytest.approx(3.0)
    assert less_between_nodes(1000) == pytest.approx(1.5, rel=0.01)
