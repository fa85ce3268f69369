"""The collectives of a window: what each is, in which communicator, and what came before it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.cells import NO_CHAIN
from speedprof.profiler.collectives import kind
from speedprof.profiler.labels import LABELS
from speedprof.profiler.reduced import Collective
from speedprof.profiler.window_phases import IN_FLIGHT, Explained, named, on_main

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.cells import Cells
    from speedprof.profiler.intervals import Times
    from speedprof.profiler.window_reading import Window

MOST_COLLECTIVES = 20_000  # of one window
_TEMPLATE = re.compile(r"[<(].*$")
_CALLED = re.compile(r"^(nccl:|xccl:|c10d::)")  # by the host
_ANNOTATED = re.compile(r"^[a-z]*ccl:")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Columns over the collectives of a window, in the order in which they began."""

    name: Times
    start: Times
    end: Times
    bytes: Times
    group: Times
    sequence: Times
    launched: Times | None  # by the host; None where it did them itself


def collectives(window: Window, explained: Explained, cells: Cells) -> list[Collective]:
    """Return the collectives in the order in which they began.

    Those of a step that was cut off at the window's start are there, too, for other ranks have
    them as well; what was launched after the last step is not, for others may not.
    """
    found = _on_device(explained)
    if found is None:
        found = _on_host(window)
    names = window.header.names
    kinds = [kind(name) for name in names]
    annotated = _annotations(window, found)
    group, sequence = _recorded(window, found, "group"), _recorded(window, found, "sequence")
    since = _since(found, explained)
    before = _by_label(since, found.start, cells)
    during = _by_label(found.start, found.end, cells)
    chains = _by_chain(since, found.start, cells)
    step = np.searchsorted(explained.boundaries, found.start, "right") - 1
    return [
        Collective(
            name=_TEMPLATE.sub("", names[found.name[i]]).strip(),
            step=window.header.first_step + int(step[i]),
            start=int(found.start[i]),
            end=int(found.end[i]),
            bytes=int(found.bytes[i]),
            kind=kinds[found.name[i]] or (kinds[annotated[i]] if annotated[i] >= 0 else ""),
            group=window.header.groups[group[i]] if group[i] >= 0 else None,
            sequence=int(sequence[i]) if sequence[i] >= 0 else None,
            before=before[i],
            during=during[i],
            chains=chains.get(i, []),
        )
        for i in range(len(found.start))
        if step[i] < len(explained.boundaries) - 1
    ]


def _on_device(explained: Explained) -> _Found | None:
    device = explained.device
    if device is None or not device.collective.any():
        return None
    rows = np.flatnonzero(device.collective)
    rows = rows[np.argsort(device.start[rows], kind="stable")][:MOST_COLLECTIVES]
    on_device = np.full(len(rows), -1, np.int64)
    return _Found(
        name=device.name[rows],
        start=device.start[rows],
        end=device.end[rows],
        bytes=device.bytes[rows],
        group=on_device,
        sequence=on_device,
        launched=device.launched[rows],
    )


def _on_host(window: Window) -> _Found:
    chosen = named(window, IN_FLIGHT)
    if not chosen.any():
        chosen = named(window, _CALLED) & on_main(window)
    event = window.event
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(event["start"][rows], kind="stable")][:MOST_COLLECTIVES]
    return _Found(
        name=event["name"][rows],
        start=event["start"][rows],
        end=event["end"][rows],
        bytes=event["bytes"][rows],
        group=event["group"][rows],
        sequence=event["sequence"][rows],
        launched=None,
    )


def _annotations(window: Window, found: _Found) -> Times:
    """Return for each kernel the name of the annotation that it was launched in, -1 for none."""
    if found.launched is None:
        return np.full(len(found.start), -1, np.int64)
    chosen = named(window, _ANNOTATED) & (window.event["device"] < 0)
    return _around(window, chosen, "name", found.launched)


def _recorded(window: Window, found: _Found, what: str) -> Times:
    """Return what was recorded of each collective, or of the operator that launched it."""
    own: Times = getattr(found, what)
    if found.launched is None:
        return own
    column = window.event[what]
    chosen = (column >= 0) & (window.event["device"] < 0)
    return np.where(own >= 0, own, _around(window, chosen, what, found.launched))


def _around(window: Window, chosen: NDArray[np.bool_], what: str, moment: Times) -> Times:
    """Return a column of the last begun of the chosen events that holds a moment, or -1."""
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return np.full(len(moment), -1, np.int64)
    rows = rows[np.argsort(window.event["start"][rows], kind="stable")]
    last = np.searchsorted(window.event["start"][rows], moment, "right") - 1
    row = rows[np.maximum(last, 0)]
    holds = (last >= 0) & (window.event["end"][row] >= moment)
    return np.where(holds, window.event[what][row], -1)


def _since(found: _Found, explained: Explained) -> Times:
    """Return when the collective before each one ended; that is later where they overlap."""
    first = int(explained.boundaries[0])
    ended: Times = np.maximum.accumulate(np.concatenate(([first], found.end)))[:-1]
    return ended


def _by_label(start: Times, end: Times, cells: Cells) -> list[list[int]]:
    """Return ns by label of each span; nothing of one that is empty or not inside the cells."""
    edges = cells.moments.edges
    every = np.unique(np.concatenate((edges, start, end)))
    every = every[(every >= edges[0]) & (every <= edges[-1])]
    label = cells.label[cells.moments.at(every[:-1])]
    inside = (start < end) & (start >= edges[0]) & (end <= edges[-1])
    low, high = np.searchsorted(every, start), np.searchsorted(every, end)
    spent = np.zeros((len(start), len(LABELS)), np.int64)
    length = np.diff(every)
    for number in range(len(LABELS)):
        so_far = np.concatenate(([0], np.cumsum(np.where(label == number, length, 0))))
        spent[inside, number] = so_far[high[inside]] - so_far[low[inside]]
    return [row if known else [] for row, known in zip(spent.tolist(), inside, strict=True)]


def _by_chain(start: Times, end: Times, cells: Cells) -> dict[int, list[tuple[int, int, int]]]:
    """Return (chain, label, ns) of the spans, which do not overlap, by the span's index."""
    real = np.flatnonzero(start < end)
    low, high = start[real], end[real]
    every = np.unique(np.concatenate((cells.moments.edges, low, high)))
    moment, length = every[:-1], np.diff(every)
    cell = cells.moments.at(moment)
    at = np.searchsorted(low, moment, "right") - 1
    inside = (at >= 0) & (cells.chain[cell] != NO_CHAIN)
    inside &= moment < np.append(high, 0)[at]
    where = np.column_stack(
        (real[at[inside]], cells.chain[cell[inside]], cells.label[cell[inside]])
    )
    distinct, number = np.unique(where, axis=0, return_inverse=True)
    spent = np.bincount(number.ravel(), length[inside], len(distinct)).astype(np.int64)
    found: dict[int, list[tuple[int, int, int]]] = {}
    for (which, chain, label), ns in zip(distinct.tolist(), spent.tolist(), strict=True):
        found.setdefault(which, []).append((chain, label, ns))
    return found
