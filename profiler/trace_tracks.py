"""Our answer as rows beside a recorded trace: each exclusive piece of each step, and the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.labels import LABELS
from speedprof.profiler.perfetto import Track

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from speedprof.profiler.intervals import Times

NAMES = tuple(label.replace(".", ": ").replace("_", " ") for label in LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A window's moments by label; times are ns since the trace's first event."""

    edges: Times  # moment i is [edges[i], edges[i + 1])
    label: NDArray[np.int64]  # of labels.LABELS
    boundaries: Times  # of the steps, where the device crosses them
    first_step: int


def tracks(windows: Sequence[Pieces], *, base: float, unit_ns: float) -> list[Track]:
    """Return the rows; `base` is the first event's time stamp, in units of `unit_ns` ns."""
    return [
        Track(name="phases", pieces=_phases(windows, base, unit_ns)),
        Track(name="steps", pieces=_steps(windows, base, unit_ns)),
    ]


def _phases(
    windows: Sequence[Pieces], base: float, unit_ns: float
) -> Iterator[tuple[float, float, str]]:
    """Yield the pieces, neighbours of one label and step as one; those of a step add up to it."""
    for window in windows:
        edges = window.edges[:-1]
        step = np.searchsorted(window.boundaries, edges, "right")
        changes = (np.diff(window.label) != 0) | (np.diff(step) != 0)
        first = np.concatenate(([True], changes)) if len(edges) else np.zeros(0, np.bool_)
        stamps = _stamps(np.append(edges[first], window.edges[-1:]), base, unit_ns)
        for number, label in enumerate(window.label[first].tolist()):
            yield stamps[number], stamps[number + 1], NAMES[label]


def _steps(
    windows: Sequence[Pieces], base: float, unit_ns: float
) -> Iterator[tuple[float, float, str]]:
    for window in windows:
        stamps = _stamps(window.boundaries, base, unit_ns)
        for step, start in enumerate(stamps[:-1]):
            if stamps[step + 1] > start:
                yield start, stamps[step + 1], f"step {window.first_step + step}"


def _stamps(times: Times, base: float, unit_ns: float) -> list[float]:
    """Return time stamps as the trace would have them.

    Beside a base of 1e15 a float holds quarters of a microsecond: lengths are differences of what
    it holds, so that pieces meet without a gap.
    """
    stamps: list[float] = (base + times / unit_ns).tolist()
    return stamps
