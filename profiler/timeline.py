"""One representative step of a window, drawn as lanes of bars."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.intervals import Spans
from speedprof.profiler.labels import LABELS, PHASE_OF
from speedprof.profiler.run import Bar, Lane, Timeline

if TYPE_CHECKING:
    from speedprof.profiler.cells import Cells
    from speedprof.profiler.window_phases import Explained
    from speedprof.profiler.window_reading import Header

MOST_BARS = 400  # of a lane; a bar narrower than a pixel shows nothing
MOST_STREAMS = 6
Piece = tuple[int, int, str, str]  # start, end (ns), phase, label


def representative(explained: Explained, cells: Cells, header: Header) -> Timeline:
    """Draw the window's step of median length."""
    boundaries = explained.boundaries
    walls = np.diff(boundaries)
    step = int(np.argsort(walls, kind="stable")[(len(walls) - 1) // 2])
    start, end = int(boundaries[step]), int(boundaries[step + 1])
    drawn = [
        ("DataLoader", _pieces(explained.loop.loader, "data_loading", "next batch")),
        ("training thread", _host(explained)),
        *_streams(explained, start, end),
        *_collectives(explained),
    ]
    lanes = [Lane(name=name, bars=_bars(pieces, start, end)) for name, pieces in drawn]
    exposed = _exposed(cells, start, end)
    lanes.append(Lane(name="exposed", bars=_bars(exposed, start, end, gapless=True)))
    return Timeline(
        rank=header.rank,
        step=header.first_step + step,
        wall_ms=(end - start) / 1e6,
        lanes=[lane for lane in lanes if lane.bars],
    )


def _host(explained: Explained) -> list[Piece]:
    loop, operators = explained.loop, explained.operators
    aside = loop.checkpoint | loop.evaluation | loop.loader
    training = operators - aside
    phase = "compute" if explained.device is None else "host"
    forward = training - loop.backward - loop.optimizer
    return sorted(
        _pieces(loop.checkpoint, "outside", "checkpoint")
        + _pieces(loop.evaluation - loop.checkpoint, "outside", "evaluation")
        + _pieces(forward, phase, "forward")
        + _pieces((training & loop.backward) - loop.optimizer, phase, "backward")
        + _pieces(training & loop.optimizer, phase, "optimizer")
    )


def _streams(explained: Explained, begin: int, end: int) -> list[tuple[str, list[Piece]]]:
    device = explained.device
    if device is None:
        return []
    lanes = []
    streams, counts = np.unique(device.stream, return_counts=True)
    for stream in streams[np.argsort(-counts, kind="stable")][:MOST_STREAMS].tolist():
        here = (device.stream == stream) & (device.end > begin) & (device.start < end)
        pieces = (
            _pieces(device.spans(here & device.kernel), "compute", "kernels")
            + _pieces(device.spans(here & device.collective), "communication", "collective")
            + _pieces(device.spans(here & device.to_device), "host_to_device", "copy to device")
            + _pieces(device.spans(here & device.memory), "compute", "device memory")
        )
        lanes.append((f"GPU stream {stream % 1_000_003}", sorted(pieces)))
    return lanes


def _collectives(explained: Explained) -> list[tuple[str, list[Piece]]]:
    """Return the lane of collectives that no stream shows: those of the CPU."""
    if explained.device is not None and explained.device.collective.any():
        return []
    return [("collectives", _pieces(explained.collectives, "communication", "collective"))]


def _exposed(cells: Cells, start: int, end: int) -> list[Piece]:
    first = max(0, int(np.searchsorted(cells.moments.edges, start, "right")) - 1)
    last = int(np.searchsorted(cells.moments.edges, end, "left"))
    edges = cells.moments.edges[first : last + 1].tolist()
    labels = cells.label[first:last].tolist()
    return [
        (edges[i], edges[i + 1], PHASE_OF[label], LABELS[label].replace(".", ": "))
        for i, label in enumerate(labels)
    ]


def _pieces(some: Spans, phase: str, label: str) -> list[Piece]:
    ends = some.end.tolist()
    return [
        (start, end, phase, label) for start, end in zip(some.start.tolist(), ends, strict=True)
    ]


def _bars(pieces: list[Piece], start: int, end: int, *, gapless: bool = False) -> list[Bar]:
    """Clip to the step, join neighbours of one label, and leave out what nobody could see.

    Where the pieces fill the step, `gapless`, what is left out goes to the piece before it.
    """
    joined: list[list[int | str]] = []
    near = (end - start) // (4 * MOST_BARS)
    for begin, finish, phase, label in pieces:
        low, high = max(begin, start), min(finish, end)
        if high <= low:
            continue
        if joined and joined[-1][3] == label and low - int(joined[-1][1]) <= near:
            joined[-1][1] = max(int(joined[-1][1]), high)
        else:
            joined.append([low, high, phase, label])
    joined.sort(key=lambda bar: int(bar[0]) - int(bar[1]))
    kept = sorted(joined[:MOST_BARS], key=lambda bar: int(bar[0]))
    if gapless and kept:
        kept[0][0] = start
        for bar, following in pairwise(kept):
            bar[1] = following[0]
        kept[-1][1] = end
    return [
        Bar(
            start_ms=(int(low) - start) / 1e6,
            end_ms=(int(high) - start) / 1e6,
            phase=str(phase),
            label=str(label),
        )
        for low, high, phase, label in kept
    ]
