"""Means and intervals of steps."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler.statistics import quantiles, ratio_half_width, step_times, t_975


@pytest.mark.parametrize(
    ("degrees", "exact"), [(1, 12.706), (11, 2.201), (30, 2.042), (120, 1.980)]
)
def test_students_t_is_that_of_the_tables(degrees: int, exact: float):
    assert t_975(degrees) == pytest.approx(exact, rel=5e-3)


def test_the_interval_of_a_mean_holds_it_about_as_often_as_it_says_even_if_neighbours_are_alike():
    draw, held = random.Random(7), 0
    for _ in range(300):
        value, values = 0.0, []
        for _ in range(400):
            value = 0.5 * value + draw.gauss(0, 1)
            values.append(10 + value)
        half = ratio_half_width(np.array(values), np.ones(400))
        held += abs(np.mean(values) - 10) <= half
    assert 0.90 <= held / 300 <= 0.99


def test_one_row_has_no_interval():
    assert math.isinf(ratio_half_width(np.array([1.0]), np.array([2.0])))
    times = step_times(np.array([10_000_000]), np.array([1]), np.array([0]))
    assert times is not None
    assert (times.mean_ms, times.low_ms, times.high_ms, times.samples_per_s) == (
        10.0,
        None,
        None,
        None,
    )


def test_no_rows_have_no_times():
    nothing = np.zeros(0, np.int64)
    assert step_times(nothing, nothing, nothing) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 9)), min_size=1, max_size=30))
def test_quantiles_lie_within_and_ascend(weighted):
    values = np.array([value for value, _ in weighted])
    weights = np.array([weight for _, weight in weighted])
    found = quantiles(values, weights, (0.0, 0.1, 0.5, 0.9, 1.0))
    assert found == sorted(found)
    assert values.min() <= found[0]
    assert found[-1] <= values.max()


def test_a_quantile_weighs_each_row():
    (median,) = quantiles(np.array([1.0, 2.0]), np.array([1, 99]), [0.5])
    assert median > 1.9
