"""Gains of lower precision, fusion and graphs: what the formulas promise, and where they stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.kernel_gains import (
    MOST_SPREAD,
    PUBLISHED,
    WORST,
    bounded,
    chain_length,
    fusing,
    fusion_speedup,
    graphing,
    precision,
    product_speedup,
)

shares = some.floats(0.0, 1.0)


def test_products_in_a_type_with_twice_the_roof_are_at_best_twice_as_fast() -> None:
    assert product_speedup(2.0) == (pytest.approx(2.0**0.5), pytest.approx(2.0))


def test_products_in_a_type_with_16_times_the_roof_reach_three_quarters_of_it() -> None:
    slowest, fastest = product_speedup(16.0)
    assert fastest == pytest.approx(12.0)
    assert 3.0 < slowest < 4.0


def test_where_roofs_are_not_known_published_figures_are_taken() -> None:
    assert product_speedup(None) == PUBLISHED


def test_no_type_makes_products_slower_than_its_roof_says() -> None:
    assert product_speedup(0.5) == (1.0, 1.0)


def test_classes_of_kernels_are_sped_up_each_by_its_own_range() -> None:
    gain = precision({"matmul": 0.5, "elementwise": 0.3}, {"matmul": (2.0, 5.0)})
    assert (gain.low, gain.high) == (pytest.approx(1 / 0.75), pytest.approx(1 / 0.6))
    assert "50 % matmul 2 to 5 times" in gain.model
    assert "elementwise" not in gain.model


def test_two_classes_gain_more_than_one_and_less_than_both_gains_multiplied() -> None:
    first, second = {"matmul": 0.4}, {"elementwise": 0.4}
    faster = {"matmul": (2.0, 2.0), "elementwise": (2.0, 2.0)}
    one, other = precision(first, faster), precision(second, faster)
    both = precision(first | second, faster)
    assert one.high < both.high
    assert both.high == pytest.approx(1 / 0.6)
    assert both.high != pytest.approx(one.high * other.high)


@given(shares, some.floats(1.0, 20.0))
def test_no_precision_gains_more_than_having_no_products_at_all(share: float, r: float) -> None:
    gain = precision({"matmul": min(share, 0.99)}, {"matmul": product_speedup(r)})
    assert 1.0 <= gain.low <= gain.high <= ceiling(min(share, 0.99)) + 1e-9


def test_a_chain_is_as_long_as_there_are_streaming_operators_for_each_product() -> None:
    assert chain_length(60, 20) == pytest.approx(3.0)
    assert chain_length(500, 20) == pytest.approx(4.0)
    assert chain_length(1, 20) == pytest.approx(1.5)


def test_without_products_a_chain_is_as_long_as_usual() -> None:
    assert chain_length(500, 0) == pytest.approx(3.0)


def test_fusing_three_operators_saves_two_thirds_of_their_bytes_or_only_one_third() -> None:
    assert fusion_speedup(3.0) == (pytest.approx(1.5), pytest.approx(3.0))


def test_fusing_a_third_of_the_step_may_save_two_ninths_of_it_or_cost_something() -> None:
    gain = fusing(1 / 3, 3.0)
    assert gain.high == pytest.approx(1 / (2 / 3 + 1 / 9))
    assert WORST < gain.low < 1.0


@given(shares, some.floats(1.5, 4.0))
def test_fusing_never_gains_more_than_the_share_allows(share: float, chain: float) -> None:
    gain = fusing(share, chain)
    assert gain.high <= ceiling(share) + 1e-9
    assert gain.high <= MOST_SPREAD * gain.low * (1 + 1e-9)


def test_a_graph_saves_all_launches_but_its_own_or_half_of_them() -> None:
    gain = graphing(step_ms=10.0, launch_ms=5.0, operators=480.0)
    assert gain.high == pytest.approx(10.0 / (5.0 + 0.5))
    assert gain.low == pytest.approx(10.0 / (10.0 - 2.25))


def test_a_graph_of_tiny_launches_saves_nothing() -> None:
    gain = graphing(step_ms=10.0, launch_ms=0.4, operators=1000.0)
    assert (gain.low, gain.high) == (pytest.approx(1.0), pytest.approx(1.0))


@given(some.floats(0.0, 1.0), some.floats(0.0, 10_000.0))
def test_a_graph_never_gains_more_than_launches_cost(launch_ms: float, operators: float) -> None:
    gain = graphing(step_ms=1.0, launch_ms=launch_ms, operators=operators)
    assert 1.0 <= gain.high <= ceiling(launch_ms) + 1e-9


def test_a_range_is_cut_at_what_is_possible_at_most() -> None:
    gain = bounded(1.2, 3.0, "", most=1.5)
    assert (gain.low, gain.high) == (1.2, 1.5)


def test_too_wide_a_range_keeps_its_middle() -> None:
    gain = bounded(1.0, 9.0, "")
    assert gain.high / gain.low == pytest.approx(MOST_SPREAD)
    assert gain.high * gain.low == pytest.approx(9.0)
