"""What of matched collectives is transfer, who waited, for whom, and what that rank was doing.

Transfer is the least time that a rank spent in a collective: it came last and did not wait. What
the others spent beyond that is waiting. The ranks that do not come last wait at the same time, so
what a late rank costs is the longest wait of each collective, not their sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from speedprof.profiler.intervals import spans
from speedprof.profiler.labels import LABEL, LABELS
from speedprof.profiler.rank_clocks import clock_leads, medians

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.intervals import Times
    from speedprof.profiler.matching import Matches

# GPUs of one host have clocks that are known to some 50 us (published traces of A100s and V100s:
# their collectives' ends are 1 to 90 us apart), and hosts are aligned as well as their collectives
# usually are. Ends that are several times further apart are no matter of clocks: some ranks had
# less to do and left early.
CLOCKS_NS = 50_000
UNUSUAL = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waiting:
    """Times are ns, summed over all matched collectives; columns go by index of the rank."""

    collectives: int
    unmatched: int  # calls without a counterpart
    steps: int  # whole ones, in which collectives were matched
    rank_steps: int  # the same, each rank's counted for itself
    least: int  # the least time in each collective
    longest: int  # the longest wait in each collective
    transfer_union: int  # of all ranks' whole steps; collectives that run at once count once
    whole_union: int
    ranks: NDArray[np.int64]
    inside: Times  # in matched collectives
    waited: Times
    caused: Times  # the longest waits in the collectives that it came last to
    doing: NDArray[np.float64]  # of caused: by rank and label, what it did longer than others
    unseen: NDArray[np.float64]  # of caused: it came late into the recording
    explained: NDArray[np.bool_]  # something is known of what the rank did before it came
    ahead: Times  # of the clock


def waiting(matches: Matches) -> Waiting | None:
    """Sum up matched collectives; None where none of them can be one."""
    ahead = clock_leads(matches)
    possible = matches.only(_met(matches, ahead))
    if not len(possible):
        return None
    rank, collective = possible.rank, possible.collective
    length = possible.end - possible.start
    least = np.minimum.reduceat(length, possible.first)
    wait = length - least[collective]
    late = _late(possible, ahead)
    others = wait.copy()
    others[late] = 0
    longest = np.maximum.reduceat(others, possible.first)
    count = len(possible.ranks)
    moved, whole = possible.end - least[collective], possible.inside
    steps = np.unique(np.column_stack((possible.step, rank))[whole], axis=0)
    return Waiting(
        collectives=len(possible),
        unmatched=possible.unmatched,
        steps=len(np.unique(steps[:, 0])),
        rank_steps=len(steps),
        least=int(least.sum()),
        longest=int(longest.sum()),
        transfer_union=_union(rank[whole], moved[whole], possible.end[whole]),
        whole_union=_union(rank[whole], possible.start[whole], possible.end[whole]),
        ranks=possible.ranks,
        inside=_summed(rank, length, count),
        waited=_summed(rank, wait, count),
        caused=_summed(rank[late], longest, count),
        ahead=ahead,
        **_doing(possible, late, wait, longest),
    )


def _met(matches: Matches, ahead: Times) -> NDArray[np.bool_]:
    """Tell which collectives can be one: nobody left before the last one had come."""
    start, end = matches.start - ahead[matches.rank], matches.end - ahead[matches.rank]
    first = matches.first
    came, left = np.maximum.reduceat(start, first), np.minimum.reduceat(end, first)
    unsure = _unsure(np.maximum.reduceat(end, first) - left)
    met: NDArray[np.bool_] = (came <= left + unsure) | ~matches.together[first]
    return met


def _late(matches: Matches, ahead: Times) -> NDArray[np.int64]:
    """Return the row of the rank that came last to each collective.

    That is the one that spent the least time in it. Where the ranks left at unusually different
    moments that may be one that only had less to do, and the one that began last, by the aligned
    clocks, is meant.
    """
    first, collective = matches.first, matches.collective
    length = matches.end - matches.start
    shortest = np.lexsort((matches.rank, length, collective))[first]
    start, end = matches.start - ahead[matches.rank], matches.end - ahead[matches.rank]
    began_last = np.lexsort((matches.rank, -start, collective))[first]
    apart = np.maximum.reduceat(end, first) - np.minimum.reduceat(end, first)
    chosen: NDArray[np.int64] = np.where(apart > _unsure(apart), began_last, shortest)
    return chosen


def _unsure(apart: Times) -> int:
    """Return how far apart moments on aligned clocks may be and still be the same, in ns."""
    return max(CLOCKS_NS, UNUSUAL * int(np.median(apart)))


def _doing(
    matches: Matches, late: NDArray[np.int64], wait: Times, longest: Times
) -> dict[str, NDArray[Any]]:
    """Charge each longest wait to what the late rank did longer than the median of the others.

    All ranks left the collective before together, so what they did from then until the late one
    came is compared: the others' own time and their wait. A rank that computes while others wait
    is not late by that if these compute beside their wait. What cannot be explained is charged to
    nothing. Where the recording begins in between, the late rank's may have begun later than that
    of the one that waited longest: this is `unseen`.
    """
    spent, usual, waiters = _until_the_late_one_came(matches, late, wait)
    excess = np.maximum(spent - usual, 0.0)
    excess[:, LABEL["communication"]] = 0.0
    known = np.logical_not(np.isnan(excess).any(axis=1))
    charged = np.where(known[:, None], excess, 0.0)
    charged *= np.minimum(1.0, longest / np.maximum(charged.sum(axis=1), 1.0))[:, None]
    began_later = waiters - spent.sum(axis=1)
    unseen = np.where(known & matches.opening[late], began_later, 0.0)
    unseen = np.clip(unseen, 0.0, np.maximum(longest - charged.sum(axis=1), 0.0))
    count, rank = len(matches.ranks), matches.rank[late]
    doing = np.zeros((count, len(LABELS)))
    np.add.at(doing, rank, charged)
    return {
        "doing": doing,
        "unseen": np.bincount(rank, unseen, count),
        "explained": np.bincount(rank[known], minlength=count) > 0,
    }


def _until_the_late_one_came(
    matches: Matches, late: NDArray[np.int64], wait: Times
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return ns by collective and label: the late rank's, and the median of the others'.

    That is what a rank spent before it came and, while it waited, inside. The wait is taken to be
    like the whole of the call, of which it is most where it matters. The third is the sum over
    labels of the rank that waited longest.
    """
    waiting = wait / np.maximum(matches.end - matches.start, 1)
    others = np.ones(len(matches.rank), np.bool_)
    others[late] = False
    group = matches.collective[others]
    waiter = np.lexsort((-wait * others, matches.collective))[matches.first]
    spent, usual = np.empty((2, len(matches), len(LABELS)))
    waiters = np.zeros(len(matches))
    for label in range(len(LABELS)):
        before, during = matches.spent(label)
        column = before + np.nan_to_num(during) * waiting
        spent[:, label] = column[late]
        usual[:, label] = medians(group, column[others])
        waiters += column[waiter]
    return spent, usual, waiters


def _summed(rank: NDArray[np.int64], value: Times, count: int) -> Times:
    total = np.zeros(count, np.int64)
    np.add.at(total, rank, value)
    return total


def _union(rank: NDArray[np.int64], start: Times, end: Times) -> int:
    """Return the time that these spans cover, summed over the ranks."""
    order = np.argsort(rank, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(rank[order])) + 1)
    return sum(spans(start[rows], end[rows]).total() for rows in parts)
