"""What the training thread was doing, from samples of its stack and its CPU clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.intervals import Partition, Spans, Times
from speedprof.profiler.stacks import Stack, describe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.window_reading import Window

# A thread that gets less CPU time than this part of the time it could have had is waiting: for a
# lock, a queue, a socket, a subprocess, or asleep. Python that computes is near 1, the sampler's
# own share of the interpreter lock takes a few per cent of it.
WAITING_CPU = 0.3
OWN_VERDICT = 0.5  # part of an interval outside operators from which its CPU time alone decides
UNSEEN = -1  # no stack
_NO_SOURCE = 0
_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The window cut into pieces, each with one stack."""

    pieces: Partition  # codes: index into the two columns below
    sample: NDArray[np.int64]  # of each piece, index into at, or UNSEEN
    waiting: NDArray[np.bool_]  # of each piece
    stacks: list[Stack]
    at: Times  # of the samples
    stack_at: NDArray[np.int64]  # index into stacks

    @property
    def stack(self) -> NDArray[np.int64]:
        """Return the stack of each piece, or UNSEEN."""
        if not len(self.at):
            return np.full(len(self.sample), UNSEEN)
        return np.where(self.sample == UNSEEN, UNSEEN, self.stack_at[self.sample])


def look(window: Window, start: int, end: int, operators: Spans) -> Seen:
    """Give each moment in [start, end) the stack of a sample near it, or none.

    Where operators, probes or steps begin or end between two samples, the thread changed what it
    did there, so a stack holds from its sample to the nearest such mark: a wait of 20 ms is then
    known exactly, not to the sampler's 5 ms.
    """
    frames, header = window.header.frames, window.header
    stacks = [describe([frames[index] for index in stack]) for stack in header.stacks]
    inside = (window.sample["at"] > start) & (window.sample["at"] < end)
    at, index = np.unique(window.sample["at"][inside], return_index=True)
    columns = {name: column[inside][index] for name, column in window.sample.items()}
    if not len(at):
        return _unseen(start, end, stacks)
    probes = (window.probe["start"], window.probe["end"], window.boundaries)
    walls = np.unique(np.concatenate(probes))
    marks = np.unique(np.concatenate((walls, operators.start, operators.end)))
    until, since = _reaches(at, columns["stack"], operators.contains(at), marks, stacks)
    until = np.minimum(until, _next(walls, at[:-1]))
    since = np.maximum(since, _last(walls, at[1:]))
    middle = np.column_stack((at[:-1], until, since)).ravel()
    edges, piece = _cells(np.concatenate(([start], middle, at[-1:], [end])))
    sample = np.arange(len(at))
    between = np.column_stack((sample[:-1], np.full(len(at) - 1, UNSEEN), sample[1:])).ravel()
    waits = _waits(at, columns, start, operators, _line_numbers(stacks)[columns["stack"]])
    gap = np.minimum(np.searchsorted(at, edges[:-1], "right"), len(at) - 1)
    return Seen(
        pieces=Partition(edges, np.arange(len(piece))),
        sample=np.concatenate(([0], between, sample[-1:]))[piece],
        waiting=waits[gap],
        stacks=stacks,
        at=at,
        stack_at=columns["stack"],
    )


def _reaches(
    at: Times,
    stack: NDArray[np.int64],
    operating: NDArray[np.bool_],
    marks: Times,
    stacks: list[Stack],
) -> tuple[Times, Times]:
    """Return until when the earlier of each two samples holds, and since when the later.

    Both reach to the nearest mark. Beyond it are mostly operators: they belong to a sample that
    was taken in one, to both by halves where the two come from one place, otherwise to neither.
    """
    low, middle, high = _fences(at, marks)
    chain = _chain_numbers(stacks)[stack]
    same = (stack[:-1] == stack[1:]) | ((chain[:-1] == chain[1:]) & (chain[1:] != _NO_SOURCE))
    earlier, later = operating[:-1], operating[1:]
    both = (earlier & later) | same
    until = np.where(both, middle, np.where(earlier, high, low))
    since = np.where(both, middle, np.where(later, low, high))
    return until, since


def _next(walls: Times, at: Times) -> Times:
    return np.append(walls, _FOREVER)[np.searchsorted(walls, at, "right")]


def _last(walls: Times, at: Times) -> Times:
    return np.append(-_FOREVER, walls)[np.searchsorted(walls, at, "left")]


def _cells(edges: Times) -> tuple[Times, NDArray[np.int64]]:
    """Leave out cells without length; return the edges of the others and which they were."""
    real = edges[1:] > edges[:-1]
    return np.append(edges[:-1][real], edges[-1]), np.flatnonzero(real)


def _fences(at: Times, marks: Times) -> tuple[Times, Times, Times]:
    """Return the first mark, the middle and the last mark between each two samples.

    Without a mark all three are the middle.
    """
    middle = (at[:-1] + at[1:]) // 2
    if not len(marks):
        return middle, middle, middle
    after = np.searchsorted(marks, at[:-1], "right")
    before = np.searchsorted(marks, at[1:], "left") - 1
    marked = before >= after
    low = np.where(marked, marks[np.clip(after, 0, len(marks) - 1)], middle)
    high = np.where(marked, marks[np.clip(before, 0, len(marks) - 1)], middle)
    return low, np.clip(middle, low, high), high


def _waits(
    at: Times, columns: dict[str, Times], start: int, operators: Spans, lines: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell for the time before each sample whether the thread waited, outside operators."""
    elapsed = np.diff(np.concatenate(([start], at)))
    could = np.maximum(elapsed - _queued(columns, elapsed), 1)
    busy = np.minimum(operators.between(np.concatenate(([start], at))), could)
    idle = could - busy
    used = np.clip(columns["cpu"] - busy, 0, idle)
    sure = idle >= OWN_VERDICT * elapsed
    counted = np.where(sure, 1, 1e-3)  # where operators fill the time their CPU use blurs the rest
    pooled_used = np.bincount(lines, counted * used)
    pooled_idle = np.bincount(lines, counted * idle)
    pooled = pooled_used < WAITING_CPU * pooled_idle
    verdict: NDArray[np.bool_] = np.where(sure, used < WAITING_CPU * idle, pooled[lines])
    return verdict


def _queued(columns: dict[str, Times], elapsed: Times) -> Times:
    """Return for how long (ns) the thread had no core in each interval, where that was told.

    Linux counts a wait for a core when it ends (`sched_info_arrive`), so that what an interval
    has no room for began in those before it; on a busy machine that is a third of them.
    """
    room = np.maximum(elapsed - columns["cpu"], 0)
    queued = np.maximum(columns["queued"], 0)
    earlier = 0
    for index in reversed(range(len(queued))):
        told = int(queued[index]) + earlier
        queued[index] = min(told, int(room[index]))
        earlier = told - int(queued[index])
    return queued


def _chain_numbers(stacks: list[Stack]) -> NDArray[np.int64]:
    numbers: dict[object, int] = {(): _NO_SOURCE}
    return np.array([numbers.setdefault(s.sources, len(numbers)) for s in stacks], np.int64)


def _line_numbers(stacks: list[Stack]) -> NDArray[np.int64]:
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(s.line, len(numbers)) for s in stacks], np.int64)


def _unseen(start: int, end: int, stacks: list[Stack]) -> Seen:
    return Seen(
        pieces=Partition(np.array([start, end], np.int64), np.zeros(1, np.int64)),
        sample=np.array([UNSEEN], np.int64),
        waiting=np.zeros(1, np.bool_),
        stacks=stacks,
        at=np.zeros(0, np.int64),
        stack_at=np.zeros(0, np.int64),
    )
