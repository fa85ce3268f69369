"""Which calls of several ranks are one and the same collective.

By communicator, kind and sequence number where every rank recorded them. Otherwise by order,
counted from the end, since a recording may begin amid a step: over all steps in a row where the
ranks did equally many, step by step where they did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.collective_calls import UNKNOWN
from speedprof.profiler.collectives import TOGETHER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from speedprof.profiler.collective_calls import Calls
    from speedprof.profiler.intervals import Times

UNMATCHED = -1
_OF_CALLS = ("step", "start", "end", "opening", "inside")
_OF_ROWS = ("rank", "together", "call", *_OF_CALLS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matches:
    """Matched calls as columns, sorted by collective, then by rank."""

    ranks: NDArray[np.int64]  # numbers of the ranks that were given, ascending
    collective: NDArray[np.int64]  # which one a row belongs to, from 0
    rank: NDArray[np.int64]  # index into ranks
    step: Times
    start: Times
    end: Times
    together: NDArray[np.bool_]  # no rank can leave it before the last has come
    opening: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    call: NDArray[np.int64]  # index into the calls of all ranks, one rank's after the other
    calls: tuple[Calls, ...]  # by index of the rank
    unmatched: int  # calls without a counterpart

    @property
    def first(self) -> NDArray[np.int64]:
        """Return the first row of each collective."""
        return np.flatnonzero(np.diff(self.collective, prepend=-1))

    def __len__(self) -> int:
        """Return the number of collectives."""
        return int(self.collective[-1]) + 1 if len(self.collective) else 0

    def only(self, kept: NDArray[np.bool_]) -> Matches:
        """Return the collectives that are chosen by `kept`, one value for each."""
        rows = kept[self.collective]
        renumbered = np.cumsum(kept) - 1
        chosen = {name: getattr(self, name)[rows] for name in _OF_ROWS}
        return Matches(
            ranks=self.ranks,
            calls=self.calls,
            collective=renumbered[self.collective[rows]],
            unmatched=self.unmatched + int((~rows).sum()),
            **chosen,
        )

    def spent(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ns with a label before and during each row's call; NaN: not known."""
        both = [(calls.before[:, label], calls.during[:, label]) for calls in self.calls]
        before, during = (
            np.concatenate(columns)[self.call] for columns in zip(*both, strict=True)
        )
        return before.astype(np.float64), during.astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """The calls of all ranks, one below the other."""

    rank: NDArray[np.int64]
    kind: NDArray[np.int64]
    kinds: list[str]
    group: NDArray[np.int64]
    sequence: Times
    step: Times
    start: Times


def match(calls: Mapping[int, Calls]) -> Matches | None:
    """Match the collectives of ranks; None where no two ranks took part in one."""
    ranks = sorted(calls)
    if not ranks:
        return None
    table = _table([calls[rank] for rank in ranks])
    number = _numbers(table)
    several = np.bincount(number[number >= 0], minlength=1) > 1
    taken = np.flatnonzero((number >= 0) & several[number])
    if not len(taken):
        return None
    rows = taken[np.lexsort((table.rank[taken], number[taken]))]
    together = np.array([kind in TOGETHER for kind in table.kinds], np.bool_)
    return Matches(
        ranks=np.array(ranks, np.int64),
        collective=np.unique(number[rows], return_inverse=True)[1].ravel(),
        rank=table.rank[rows],
        together=together[table.kind[rows]],
        call=rows,
        calls=tuple(calls[rank] for rank in ranks),
        unmatched=len(number) - len(rows),
        **{
            name: np.concatenate([getattr(calls[rank], name) for rank in ranks])[rows]
            for name in _OF_CALLS
        },
    )


def _table(listed: list[Calls]) -> _Table:
    kinds: dict[str, int] = {}
    groups: dict[str, int] = {}
    kind, group = [], []
    for one in listed:
        kind.append(_renumbered(one.kind, one.kinds, kinds))
        group.append(_renumbered(one.group, one.groups, groups))
    whole_kind = np.concatenate(kind)
    rank = np.repeat(np.arange(len(listed)), [len(one) for one in listed])
    return _Table(
        rank=rank,
        kind=whole_kind,
        kinds=list(kinds),
        group=_told_by_all(np.concatenate(group), whole_kind, rank),
        sequence=np.concatenate([one.sequence for one in listed]),
        step=np.concatenate([one.step for one in listed]),
        start=np.concatenate([one.start for one in listed]),
    )


def _renumbered(
    index: NDArray[np.int32], names: list[str], known: dict[str, int]
) -> NDArray[np.int64]:
    numbers = [known.setdefault(name, len(known)) for name in names]
    return np.array([*numbers, UNKNOWN], np.int64)[index]  # UNKNOWN is the last


def _told_by_all(
    group: NDArray[np.int64], kind: NDArray[np.int64], rank: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Forget the groups of kinds for which a rank recorded none.

    A few calls without one, as at the edge of a recording, stay by themselves.
    """
    called = np.unique(np.column_stack((kind, rank)), axis=0)
    told = np.unique(np.column_stack((kind, rank))[group != UNKNOWN], axis=0)
    every = np.bincount(called[:, 0]) == np.bincount(told[:, 0], minlength=kind.max(initial=0) + 1)
    return np.where(every[kind], group, UNKNOWN)


def _numbers(table: _Table) -> NDArray[np.int64]:
    """Return for each call the number of its collective, or UNMATCHED."""
    number = np.full(len(table.rank), UNMATCHED, np.int64)
    given = 0
    for rows in _alike(table):
        key = _by_sequence(table, rows)
        if key is None:
            key = _by_order(table, rows)
        known = key >= 0
        distinct, inverse = np.unique(key[known], return_inverse=True)
        number[rows[known]] = given + inverse.ravel()
        given += len(distinct)
    return number


def _alike(table: _Table) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each communicator and kind."""
    order = np.lexsort((table.group, table.kind))
    changes = (np.diff(table.group[order]) != 0) | (np.diff(table.kind[order]) != 0)
    yield from np.split(order, np.flatnonzero(changes) + 1)


def _by_sequence(table: _Table, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return sequence numbers; None where a rank has none, or one of them twice."""
    sequence, rank = table.sequence[rows], table.rank[rows]
    if (sequence < 0).any():
        return None
    order = np.lexsort((sequence, rank))
    twice = (np.diff(rank[order]) == 0) & (np.diff(sequence[order]) == 0)
    return None if twice.any() else sequence


def _by_order(table: _Table, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a key of the place from the end, of all steps in a row or of each step."""
    rank, step = table.rank[rows], table.step[rows]
    steps, at = np.unique(step, return_inverse=True)
    runs = np.cumsum((np.diff(steps, prepend=steps[:1]) > 1).astype(np.int64))
    run = runs[at.ravel()]
    equal = _equal(rank, run)
    unit = np.where(equal[run], run, len(equal) + at.ravel())
    place = _from_end(rank, unit, table.start[rows])
    key = unit * (int(place.max(initial=0)) + 1) + place
    if table.kinds[int(table.kind[rows[0]])] == "send_recv":
        # Messages between pairs say nothing of their pair; exchanges among all are equally many.
        key[~equal[run]] = UNMATCHED
    return key


def _equal(rank: NDArray[np.int64], run: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell for each run of steps whether all ranks that were in it did equally many."""
    present, local = np.unique(rank, return_inverse=True)
    count = np.zeros((len(present), int(run.max()) + 1), np.int64)
    np.add.at(count, (local.ravel(), run), 1)
    least = np.where(count > 0, count, np.iinfo(np.int64).max).min(axis=0)
    same: NDArray[np.bool_] = least == count.max(axis=0)
    return same


def _from_end(rank: NDArray[np.int64], unit: NDArray[np.int64], start: Times) -> Times:
    """Return how many calls of the same rank and unit follow each call."""
    order = np.lexsort((start, unit, rank))
    changes = (np.diff(rank[order]) != 0) | (np.diff(unit[order]) != 0)
    last = np.append(np.flatnonzero(changes), len(order) - 1)
    mine = np.cumsum(np.append(False, changes))
    place = np.empty(len(order), np.int64)
    place[order] = last[mine] - np.arange(len(order))
    return place
