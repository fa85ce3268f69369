"""The same collective on several ranks."""

from __future__ import annotations

import pytest

from speedprof.profiler.matching import late_phase, match
from speedprof.profiler.reduced import Collective


def did(*spans: tuple[float, float], step: int = 0, name: str = "all_reduce") -> list[Collective]:
    return [
        Collective(name=name, step=step, start=int(a * 1e6), end=int(b * 1e6), bytes=0)
        for a, b in spans
    ]


def test_the_shortest_is_transfer_and_the_rest_is_waiting_for_the_rank_that_came_last():
    found = match({0: did((0, 12)), 1: did((10, 12)), 2: did((4, 12))})
    assert found is not None
    assert found.transfer_ms == pytest.approx(2.0)
    assert found.waiting_ms == pytest.approx((10 + 0 + 6) / 3)
    assert (found.late_rank, found.late_rank_share) == (1, 1.0)


def test_ranks_need_no_common_clock():
    found = match({0: did((0, 12)), 1: did((900_010, 900_012))})
    assert found is not None
    assert (found.transfer_ms, found.late_rank) == (pytest.approx(2.0), 1)


def test_calls_are_matched_from_the_end_of_the_step():
    found = match({0: did((0, 1), (10, 14), (20, 23)), 1: did((12, 14), (20, 23))})
    assert found is not None
    assert found.transfer_ms == pytest.approx(5.0)
    assert found.waiting_ms == pytest.approx(1.0)


def test_other_names_and_other_steps_do_not_match():
    assert match({0: did((0, 5)), 1: did((0, 5), step=1)}) is None
    assert match({0: did((0, 5)), 1: did((0, 5), name="barrier")}) is None
    assert match({0: did((0, 5))}) is None
    assert match({}) is None


def test_collectives_in_flight_at_once_count_once():
    found = match({0: did((0, 10), (5, 12)), 1: did((0, 10), (5, 12))})
    assert found is not None
    assert found.transfer_ms == pytest.approx(12.0)
    assert found.waiting_ms == 0.0
    assert found.late_rank is None


def test_ranks_that_take_turns_share_the_blame():
    found = match({0: did((0, 12), (110, 112)), 1: did((10, 12), (106, 112))})
    assert found is not None
    assert (found.late_rank, found.late_rank_share) == (1, pytest.approx(10 / 14))


def test_the_late_rank_is_held_up_by_what_it_does_more_of_than_the_others():
    phases = {
        0: {"compute": 10.0, "host": 2.0, "communication": 30.0},
        1: {"compute": 11.0, "host": 30.0, "communication": 1.0},
        2: {"compute": 12.0, "host": 3.0, "communication": 29.0},
    }
    assert late_phase(phases, 1) == "host"
    assert late_phase({0: {"compute": 1.0}, 1: {"compute": 1.0}}, 1) is None
    assert late_phase({1: {"compute": 1.0}}, 1) is None
