"""The interval algebra against an oracle that walks through time one unit after another."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler.intervals import NOTHING, Partition, Spans, cover, overlay, spans, union

HORIZON = 40
pair = st.tuples(st.integers(0, HORIZON), st.integers(0, HORIZON))
pairs = st.lists(pair, max_size=12)


def made(listed: list[tuple[int, int]]) -> Spans:
    return spans([start for start, _ in listed], [end for _, end in listed])


def ticks(listed: list[tuple[int, int]]) -> set[int]:
    return {tick for start, end in listed for tick in range(start, end)}


def ticks_of(some: Spans) -> set[int]:
    return ticks(list(zip(some.start.tolist(), some.end.tolist(), strict=True)))


def assert_well_formed(some: Spans) -> None:
    assert (some.end > some.start).all()
    assert (some.start[1:] > some.end[:-1]).all()


@given(pairs)
def test_union_covers_the_same_ticks_and_is_sorted_and_disjoint(listed):
    assert_well_formed(made(listed))
    assert ticks_of(made(listed)) == ticks(listed)
    assert made(listed).total() == len(ticks(listed))


@given(pairs, pairs)
def test_operators_are_those_of_sets(left, right):
    a, b = made(left), made(right)
    for result, expected in (
        (a | b, ticks(left) | ticks(right)),
        (a & b, ticks(left) & ticks(right)),
        (a - b, ticks(left) - ticks(right)),
    ):
        assert ticks_of(result) == expected
        assert_well_formed(result)


@given(pairs, pair)
def test_clip_keeps_what_is_inside(listed, limits):
    assert ticks_of(made(listed).clip(*limits)) == ticks(listed) & ticks([limits])


@given(pairs, st.lists(st.integers(-3, HORIZON + 3), max_size=8))
def test_contains_and_between_count_ticks(listed, times):
    covered = ticks(listed)
    assert made(listed).contains(times).tolist() == [time in covered for time in times]
    boundaries = sorted(times)
    counted = [len(covered & set(range(low, high))) for low, high in pairwise(boundaries)]
    assert made(listed).between(boundaries).tolist() == counted


@given(st.lists(pairs, max_size=4), st.integers(0, 20), st.integers(21, HORIZON))
def test_cover_gives_each_tick_to_its_first_layer(layers, start, end):
    partition = cover(start, end, [made(layer) for layer in layers])
    assert partition.edges[0] == start
    assert partition.edges[-1] == end
    for tick in range(start, end):
        owners = [index for index, layer in enumerate(layers) if tick in ticks(layer)]
        assert partition.at([tick])[0] == (owners[0] if owners else len(layers))
    assert partition.lengths().sum() == end - start


@given(st.lists(pairs, max_size=3), st.lists(pairs, max_size=3))
def test_overlay_keeps_both_labels_at_every_tick(left, right):
    a = cover(5, 35, [made(layer) for layer in left])
    b = cover(0, HORIZON, [made(layer) for layer in right])
    edges, (first, second) = overlay([a, b])
    combined = Partition(edges, first * 100 + second)
    assert edges[0] == 5
    assert edges[-1] == 35
    ticks_inside = np.arange(5, 35)
    assert (combined.at(ticks_inside) == a.at(ticks_inside) * 100 + b.at(ticks_inside)).all()


def test_spans_of_a_code_are_where_it_holds():
    partition = cover(0, 10, [spans([2], [4]), spans([3], [6])])
    assert ticks_of(partition.spans(0)) == {2, 3}
    assert ticks_of(partition.spans(1)) == {4, 5}
    assert ticks_of(partition.spans(2)) == {0, 1, 6, 7, 8, 9}


def test_nothing_is_neutral():
    some = spans([1, 5], [3, 8])
    assert ticks_of(union([some, NOTHING])) == ticks_of(some)
    assert len(some & NOTHING) == 0
    assert ticks_of(some - NOTHING) == ticks_of(some)
    assert union([]).total() == 0
