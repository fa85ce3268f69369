"""How far the ranks' clocks are apart, by the collectives that they left together."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.intervals import Times
    from speedprof.profiler.matching import Matches

Number = TypeVar("Number", np.int64, np.float64)


def offsets(matches: Matches) -> dict[int, int]:
    """Return by rank how many ns its clock is ahead of a reference's, which is at 0.

    A collective ends on all ranks at nearly the same moment, so the median over the collectives of
    how much later a rank saw the end is its clock's lead; the reference is the rank that took
    part in most. Ranks that met the reference in none are tied to those that did. Kinds that no
    rank can leave early count first. Ranks that no chain of collectives ties together each have
    a reference of their own.
    """
    ahead = clock_leads(matches)
    return dict(zip(matches.ranks.tolist(), ahead.tolist(), strict=True))


def clock_leads(matches: Matches) -> Times:
    """Return `offsets` by the index of the rank."""
    ahead = np.zeros(len(matches.ranks), np.int64)
    known = _references(matches)
    for chosen in (matches.together, np.ones(len(matches.rank), np.bool_)):
        while _tie(matches, chosen, ahead, known):
            pass
    return ahead


def _references(matches: Matches) -> NDArray[np.bool_]:
    """Tell which ranks are references: of those that are tied together the most often met."""
    count = len(matches.ranks)
    took_part = np.bincount(matches.rank, minlength=count)
    tied = _tied(matches)
    order = np.lexsort((-took_part, tied))
    reference = np.zeros(count, np.bool_)
    reference[order[np.flatnonzero(np.diff(tied[order], prepend=-1))]] = True
    return reference


def _tied(matches: Matches) -> NDArray[np.int64]:
    """Return for each rank the least index of those that a chain of collectives ties it to."""
    least = np.arange(len(matches.ranks))
    while True:
        met = np.minimum.reduceat(least[matches.rank], matches.first)
        lower = least.copy()
        np.minimum.at(lower, matches.rank, met[matches.collective])
        if (lower == least).all():
            return least
        least = lower


def _tie(
    matches: Matches, chosen: NDArray[np.bool_], ahead: Times, known: NDArray[np.bool_]
) -> bool:
    """Tie those ranks to the known ones that met one of them; tell whether there were any."""
    sure = chosen & known[matches.rank]
    ended = np.zeros(len(matches), np.int64)
    met = np.zeros(len(matches), np.bool_)
    collective = matches.collective[sure]
    distinct = np.unique(collective)
    ended[distinct] = medians(collective, (matches.end - ahead[matches.rank])[sure])
    met[distinct] = True
    new = chosen & ~known[matches.rank] & met[matches.collective]
    if not new.any():
        return False
    rank = matches.rank[new]
    found = np.unique(rank)
    ahead[found] = medians(rank, (matches.end - ended[matches.collective])[new])
    known[found] = True
    return True


def medians(group: NDArray[np.int64], value: NDArray[Number]) -> NDArray[Number]:
    """Return the median of each group's values (the lower of two), by ascending group."""
    order = np.lexsort((value, group))
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    count = np.diff(first, append=len(order))
    middle: NDArray[Number] = value[order][first + (count - 1) // 2]
    return middle
