"""The same collective on several ranks: which calls it is, and whom the ranks waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler.collective_calls import Calls, calls
from speedprof.profiler.communication import waited
from speedprof.profiler.matching import Matches, match
from speedprof.profiler.rank_clocks import offsets
from speedprof.profiler.reduced import Collective
from speedprof.profiler.waiting import Waiting


def call(
    start: float, end: float, step: int = 0, kind: str = "all_reduce", **more: object
) -> Collective:
    times = {"start": round(start * 1e6), "end": round(end * 1e6)}
    return Collective(name=kind, kind=kind, step=step, bytes=0, **times, **more)  # type: ignore[arg-type]


def did(*spans: tuple[float, float], **more: object) -> Calls:
    return calls([call(a, b, **more) for a, b in spans])  # type: ignore[arg-type]


def found(ranks: dict[int, Calls]) -> Waiting:
    answer = waited(ranks)
    assert answer is not None
    return answer


def caused(ranks: dict[int, Calls]) -> dict[int, float]:
    answer = found(ranks)
    listed = zip(answer.ranks.tolist(), answer.caused.tolist(), strict=True)
    return {rank: ns / 1e6 for rank, ns in listed if ns}


def pairs(ranks: dict[int, Calls]) -> list[list[tuple[int, float]]]:
    """Return each matched collective as the ranks and when, in ms, these began it."""
    matched = match(ranks)
    return [] if matched is None else began(matched)


def began(matched: Matches) -> list[list[tuple[int, float]]]:
    listed: list[list[tuple[int, float]]] = [[] for _ in range(len(matched))]
    for which, rank, start in zip(matched.collective, matched.rank, matched.start, strict=True):
        listed[which].append((int(matched.ranks[rank]), float(start) / 1e6))
    return sorted(listed, key=lambda one: one[0][1])


def test_the_shortest_is_transfer_and_the_rest_is_waiting_for_the_rank_that_came_last():
    ranks = {0: did((0, 12)), 1: did((10, 12)), 2: did((4, 12))}
    answer = found(ranks)
    assert answer.least == 2e6
    assert answer.waited.tolist() == [10e6, 0, 6e6]
    assert caused(ranks) == {1: 10.0}


def test_ranks_wait_at_the_same_time_so_lateness_costs_the_longest_wait():
    answer = found({0: did((0, 10)), 1: did((0, 10)), 2: did((9, 10))})
    assert answer.longest == 9e6


def test_ranks_need_no_common_clock():
    ranks = {0: did((0, 12)), 1: did((900_010, 900_012))}
    assert found(ranks).least == 2e6
    assert caused(ranks) == {1: 10.0}


def test_calls_are_matched_from_the_end_of_the_step():
    answer = found({0: did((0, 1), (10, 14), (20, 23)), 1: did((12, 14), (20, 23))})
    assert (answer.collectives, answer.unmatched) == (2, 1)
    assert (answer.least, answer.longest) == (5e6, 2e6)


def test_a_step_that_was_recorded_in_part_is_matched_from_its_end():
    whole = [call(t, t + 1, step=t // 10) for t in (1, 4, 7, 11, 14, 17)]
    matched = pairs({0: calls(whole), 1: calls(whole[1:])})
    assert [[start for _, start in one] for one in matched] == [[t, t] for t in (4, 7, 11, 14, 17)]


def test_a_boundary_that_ranks_cross_at_different_calls_moves_none_of_them():
    times = (1, 4, 7, 11, 14, 17)
    early = calls([call(t, t + 1, step=t // 10) for t in times])
    late = calls([call(t, t + 1, step=(t - 1) // 10 if t == 11 else t // 10) for t in times])
    shifted = calls([call(t, t + 1, step=0 if t < 14 else 1) for t in times])
    for other in (late, shifted):
        matched = pairs({0: early, 1: other})
        assert [[start for _, start in one] for one in matched] == [[t, t] for t in times]


def test_one_call_more_on_one_rank_moves_no_other_step():
    times = (1, 4, 7, 11, 14, 17, 21, 24, 27)
    first = calls([call(t, t + 1, step=t // 10) for t in times])
    second = calls([call(t, t + 1, step=int(t // 10)) for t in (*times[:3], 10.5, *times[3:])])
    matched = pairs({0: first, 1: second})
    assert [[start for _, start in one] for one in matched] == [[t, t] for t in times]


def test_other_kinds_and_other_steps_do_not_match():
    assert match({0: did((0, 5)), 1: did((0, 5), step=2)}) is None
    assert match({0: did((0, 5)), 1: did((0, 5), kind="barrier")}) is None
    assert match({0: did((0, 5))}) is None
    assert match({0: did()}) is None
    assert match({}) is None


def test_steps_that_only_one_rank_recorded_match_nothing():
    both = [call(1, 2, step=1), call(3, 4, step=2)]
    other = [call(90, 91, step=50)]
    answer = found({0: calls(both + other), 1: calls(both)})
    assert (answer.collectives, answer.unmatched, answer.steps) == (2, 1, 2)


def test_communicators_are_told_apart_where_all_ranks_recorded_them():
    first = [call(0, 4, group="data"), call(1, 6, group="tensor")]
    second = [call(2, 6, group="tensor"), call(7, 9, group="data")]
    apart = pairs({0: calls(first), 1: calls(second)})
    assert apart == [[(0, 0.0), (1, 7.0)], [(0, 1.0), (1, 2.0)]]
    silent = calls([call(2, 6), call(7, 9)])
    assert pairs({0: calls(first), 1: silent}) == [[(0, 0.0), (1, 2.0)], [(0, 1.0), (1, 7.0)]]


def test_a_call_without_a_communicator_at_the_edge_does_not_hide_those_of_the_others():
    first = [call(0, 4, group="data"), call(1, 6, group="tensor")]
    second = [call(-3, -2), call(2, 6, group="tensor"), call(7, 9, group="data")]
    assert pairs({0: calls(first), 1: calls(second)}) == [
        [(0, 0.0), (1, 7.0)],
        [(0, 1.0), (1, 2.0)],
    ]


def test_sequence_numbers_count_more_than_order_and_steps():
    first = [call(t, t + 1, sequence=t) for t in (1, 2, 3)]
    second = [call(t, t + 1, sequence=t, step=1) for t in (2, 3, 4)]
    assert pairs({0: calls(first), 1: calls(second)}) == [
        [(0, 2.0), (1, 2.0)],
        [(0, 3.0), (1, 3.0)],
    ]


@pytest.mark.parametrize("numbers", [(5, 5), (5, None)])
def test_sequence_numbers_that_are_double_or_missing_tell_nothing(numbers: tuple[int, int | None]):
    first = calls([call(1, 2, sequence=7), call(3, 4, sequence=8)])
    second = calls([call(t, t + 1, sequence=n) for t, n in zip((1, 3), numbers, strict=True)])
    assert pairs({0: first, 1: second}) == [[(0, 1.0), (1, 1.0)], [(0, 3.0), (1, 3.0)]]


def test_messages_between_pairs_are_not_taken_for_an_exchange_among_all():
    pipeline = {rank: did(*[(t, t + 1) for t in range(n)], kind="send_recv")
                for rank, n in enumerate((2, 4, 4, 2))}  # fmt: skip
    assert match(pipeline) is None
    among_all = {rank: did((0, 2), (3, 4), kind="send_recv") for rank in range(4)}
    assert [len(one) for one in pairs(among_all)] == [4, 4]


def test_a_collective_that_some_left_before_others_came_is_none():
    """Two groups whose names nobody recorded, each on its own."""
    together = [(t, t + 1.0) for t in (0, 50, 60, 70, 80)]
    apart = [(t, t + 1.0) for t in (20, 50, 60, 70, 80)]
    answer = found({0: did(*together), 1: did(*apart)})
    assert (answer.collectives, answer.unmatched) == (4, 2)
    rooted = found({r: did(*c, kind="broadcast") for r, c in enumerate((together, apart))})
    assert rooted.collectives == 5


def test_collectives_in_flight_at_once_count_once_in_a_steps_time():
    answer = found({0: did((0, 10), (5, 12)), 1: did((0, 10), (5, 12))})
    assert answer.transfer_union == answer.whole_union == 24e6  # 12 on each of two ranks
    assert answer.longest == 0


def test_ranks_that_take_turns_share_the_blame():
    ranks = {0: did((0, 12), (110, 112)), 1: did((10, 12), (106, 112))}
    assert caused(ranks) == {1: 10.0, 0: 4.0}


def test_where_ranks_leave_at_different_moments_the_last_to_begin_is_late():
    """Rank 1 begins last; rank 2 has less to exchange and is done early."""
    even = [(t, t + 5.0) for t in range(100, 200, 10)]
    gathering = {
        rank: calls([call(*first, kind="gather"), *(call(*times) for times in even)])
        for rank, first in enumerate([(0, 20), (12, 20), (3, 9)])
    }
    assert set(caused(gathering)) == {1}


def test_a_collective_that_ends_together_is_charged_to_the_shortest_though_clocks_disagree():
    """Clocks of devices are known to some 50 us only."""
    ranks = {0: did((0, 5), (10, 15), (20, 25)), 1: did((0, 5), (10.04, 15), (20, 25)),
             2: did((0, 5), (10.03, 14.98), (20, 25))}  # fmt: skip
    assert caused(ranks) == {2: pytest.approx(0.05)}


# Clocks


def test_clocks_are_apart_by_the_median_of_how_much_later_a_collective_ends():
    ends = [(0, 1), (10, 11), (20, 21)]
    jitter = [(7.0, 8.1), (17.0, 18.0), (27.0, 27.9)]
    matched = match({3: did(*ends), 5: did(*jitter)})
    assert matched is not None
    assert offsets(matched) == {3: 0, 5: 7_000_000}


def test_a_rank_that_never_met_the_reference_is_tied_to_it_by_a_third():
    ranks = {
        0: calls([call(0, 1, group="a"), call(5, 6, group="a")]),
        1: calls([call(t, t + 1, group=g) for t, g in ((100, "a"), (105, "a"), (107, "b"))]),
        2: calls([call(1_007, 1_008, group="b")]),
        3: calls([call(9, 10, group="alone")]),
    }
    matched = match(ranks)
    assert matched is not None
    ahead = offsets(matched)
    assert ahead[1] - ahead[0] == 100_000_000
    assert ahead[2] - ahead[1] == 900_000_000
    assert ahead[3] == 0


def test_kinds_that_a_rank_may_leave_early_tell_clocks_only_where_nothing_else_does():
    casts = [call(t, t + 1, kind="broadcast") for t in (0, 2, 4)]
    root = [call(t, t + 0.1, kind="broadcast") for t in (0, 2, 4)]
    reduced = [call(9, 10)]
    sure = match({0: calls(casts + reduced), 1: calls(root + reduced)})
    unsure = match({0: calls(casts), 1: calls(root)})
    assert sure is not None
    assert unsure is not None
    assert offsets(sure) == {0: 0, 1: 0}
    assert offsets(unsure) == {0: 0, 1: -900_000}


# What holds whatever the ranks did


@st.composite
def jobs(draw: st.DrawFn) -> dict[int, list[Collective]]:
    """Ranks that enter collectives at any time and leave each of them together."""
    count = draw(st.integers(2, 5))
    numbers = draw(st.lists(st.integers(0, 99), min_size=count, max_size=count, unique=True))
    listed: dict[int, list[Collective]] = {rank: [] for rank in numbers}
    free = dict.fromkeys(numbers, 0.0)
    for index in range(draw(st.integers(1, 8))):
        delay = st.integers(0, 20_000)
        start = {rank: free[rank] + draw(delay) / 1e3 for rank in numbers}
        end = max(start.values()) + draw(st.integers(1, 5_000)) / 1e3
        for rank in numbers:
            listed[rank].append(call(start[rank], end, step=index // 3))
            free[rank] = end
    return listed


def columns(
    listed: dict[int, list[Collective]], *, ahead: dict[int, int] | None = None
) -> dict[int, Calls]:
    """Return the ranks' calls, each rank's clock so many ms ahead."""
    moved = dict.fromkeys(listed, 0) | (ahead or {})
    return {
        rank: calls(
            [call(c.start / 1e6 + moved[rank], c.end / 1e6 + moved[rank], c.step) for c in of_rank]
        )
        for rank, of_rank in listed.items()
    }


@given(jobs())
def test_every_ranks_time_is_transfer_and_waiting_and_someone_came_last(job):
    answer = found(columns(job))
    assert answer.collectives == len(next(iter(job.values())))
    assert (answer.inside - answer.waited == answer.least).all()
    assert (answer.waited >= 0).all()
    assert int(answer.caused.sum()) == answer.longest
    assert int(answer.waited.max()) <= answer.longest <= int(answer.waited.sum())
    assert answer.transfer_union <= answer.whole_union


@given(jobs())
def test_the_rank_that_comes_last_is_charged_by_whoever_looks(job):
    expected = dict.fromkeys(job, 0)
    for at in range(len(next(iter(job.values())))):
        start = {rank: listed[at].start for rank, listed in job.items()}
        last = max(sorted(start), key=lambda rank: start[rank])
        expected[last] += start[last] - min(start.values())
    answer = found(columns(job))
    assert dict(zip(answer.ranks.tolist(), answer.caused.tolist(), strict=True)) == expected


@given(jobs(), st.randoms(use_true_random=False))
def test_the_order_in_which_ranks_are_given_changes_nothing(job, random):
    shuffled = list(job)
    random.shuffle(shuffled)
    one, other = found(columns(job)), found(columns({rank: job[rank] for rank in shuffled}))
    assert one.ranks.tolist() == other.ranks.tolist()
    for name in ("inside", "waited", "caused", "ahead"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


@given(jobs(), st.data())
def test_a_clock_that_is_off_on_any_rank_changes_nothing(job, data):
    ahead = {rank: data.draw(st.integers(-(10**9), 10**9)) for rank in job}
    one, other = found(columns(job)), found(columns(job, ahead=ahead))
    for name in ("inside", "waited", "caused"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    lead = (other.ahead - one.ahead) // 1_000_000
    reference = ahead[int(other.ranks[other.ahead == 0][0])]
    assert [ahead[rank] - reference for rank in other.ranks.tolist()] == lead.tolist()
