"""One rank's collectives as columns: a thousand ranks' fit into memory at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from speedprof.profiler.batch_sources import makes_batches
from speedprof.profiler.labels import LABEL, LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from speedprof.profiler.intervals import Times
    from speedprof.profiler.reduced import Collective, ReducedWindow
    from speedprof.profiler.stacks import Source

UNKNOWN = -1  # group, sequence
ROUNDING_NS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calls:
    """Collectives of one rank, in the order in which they began; times are ns of its own clock."""

    kinds: list[str]
    groups: list[str]
    kind: NDArray[np.int32]  # index into kinds
    group: NDArray[np.int32]  # index into groups, or UNKNOWN
    sequence: Times  # number of the collective in its group, or UNKNOWN
    step: Times
    start: Times
    end: Times
    before: NDArray[np.float32]  # ns by label since the collective before it; NaN: not known
    during: NDArray[np.float32]  # ns by label while it was in it
    opening: NDArray[np.bool_]  # before goes back to the start of a recording only
    inside: NDArray[np.bool_]  # in a whole step
    count: int  # of all collectives in whole steps, those that were left out as well
    bytes: int  # that all of these together sent

    def __len__(self) -> int:
        return len(self.start)


def calls_of(
    windows: Sequence[ReducedWindow],
    sources: frozenset[Source] = frozenset(),
    *,
    most: int | None = None,
) -> Calls:
    """Return the collectives of a rank's windows; of windows in a row each of them once.

    What the rank did in its batch `sources` before one is data loading.
    """
    every = [(w, c) for w in windows for c in _resolved(w, sources)]
    inside = [c for w, c in every if c.step >= w.first_step]
    known = {(c.start, c.end) for c in inside}
    cut_off = [c for w, c in every if c.step < w.first_step and (c.start, c.end) not in known]
    return calls(inside, cut_off, most=most)


def _resolved(window: ReducedWindow, sources: frozenset[Source]) -> list[Collective]:
    batches = {n for n in range(len(window.chains)) if makes_batches(window, n, sources)}
    return [
        msgspec.structs.replace(c, before=_with_batches(c, batches))
        if batches and c.chains and c.before
        else c
        for c in window.collectives
    ]


def _with_batches(collective: Collective, batches: set[int]) -> list[int]:
    before = list(collective.before)
    for chain, label, ns in collective.chains:
        if chain in batches:
            before[label] -= ns
            before[LABEL["data_loading"]] += ns
    return before


def calls(
    inside: Sequence[Collective], cut_off: Sequence[Collective] = (), *, most: int | None = None
) -> Calls:
    """Turn a rank's collectives into columns, only the last `most` of them.

    `cut_off`: those of steps that were recorded in part.
    """
    marked = [(c, True) for c in inside] + [(c, False) for c in cut_off]
    marked.sort(key=lambda entry: entry[0].start)
    kept = marked if most is None else marked[max(0, len(marked) - most) :]
    listed = [c for c, _ in kept]
    kinds: dict[str, int] = {}
    groups: dict[str, int] = {}
    before = _labelled([c.before for c in listed])
    start, end = _column([c.start for c in listed]), _column([c.end for c in listed])
    return Calls(
        kind=np.array([kinds.setdefault(c.kind or c.name, len(kinds)) for c in listed], np.int32),
        group=np.array(
            [
                UNKNOWN if c.group is None else groups.setdefault(c.group, len(groups))
                for c in listed
            ],
            np.int32,
        ),
        kinds=list(kinds),
        groups=list(groups),
        sequence=_column([UNKNOWN if c.sequence is None else c.sequence for c in listed]),
        step=_column([c.step for c in listed]),
        start=start,
        end=end,
        before=before,
        during=_labelled([c.during for c in listed]),
        opening=_opening(before, start, end),
        inside=np.array([whole for _, whole in kept], np.bool_),
        count=len(inside),
        bytes=sum(c.bytes for c in inside if c.bytes > 0),
    )


def _column(values: list[int]) -> Times:
    return np.array(values, np.int64)


def _labelled(spent: list[list[int]]) -> NDArray[np.float32]:
    found = np.full((len(spent), len(LABELS)), np.nan, np.float32)
    for row, times in enumerate(spent):
        if len(times) == len(LABELS):
            found[row] = times
    return found


def _opening(before: NDArray[np.float32], start: Times, end: Times) -> NDArray[np.bool_]:
    """Tell which collectives are the first of a recording: less was seen than time went by."""
    if not len(start):
        return np.zeros(0, np.bool_)
    since = start[1:] - np.maximum.accumulate(end)[:-1]
    unseen = since - np.nan_to_num(before[1:].sum(axis=1, dtype=np.float64)) > ROUNDING_NS
    return np.concatenate(([True], unseen))
