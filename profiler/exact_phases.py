"""The phases of steps that were traced, all of them: nothing to estimate, only to add up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.batch_sources import cubes
from speedprof.profiler.labels import LABEL, LABELS, PHASE_OF
from speedprof.profiler.record import COLUMN
from speedprof.profiler.run import PHASES, Phase
from speedprof.profiler.statistics import ratio_half_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from speedprof.profiler.reduced import ReducedWindow
    from speedprof.profiler.stacks import Source


def labelled(
    rows: NDArray[np.int64], windows: Sequence[ReducedWindow], sources: frozenset[Source]
) -> NDArray[np.float64] | None:
    """Return ns by (row, label) where windows saw every one of these steps, else None."""
    steps: dict[int, NDArray[np.int64]] = {}
    for window in windows:
        kept, moved = cubes(window, sources)
        by_label = kept.sum(axis=1)
        by_label[:, LABEL["data_loading"]] += moved.sum(axis=(1, 2))
        steps.update(zip(window.starts, by_label, strict=True))
    wanted = rows[:, COLUMN["start"]].tolist()
    if (rows[:, COLUMN["count"]] != 1).any() or any(start not in steps for start in wanted):
        return None
    found = np.array([steps[start] for start in wanted], np.float64).reshape(-1, len(LABELS))
    return found if found.sum() > 0 else None


def phases(by_label: NDArray[np.float64], mean_ms: float) -> dict[str, Phase]:
    """Return the phases of these steps; the interval is that of their mean over more such steps.

    One step has no spread: its interval is what it is.
    """
    wall = by_label.sum(axis=1)
    found = {}
    for phase in PHASES:
        spent = by_label[:, [label for label, of in enumerate(PHASE_OF) if of == phase]]
        share = float(spent.sum() / wall.sum())
        half = ratio_half_width(spent.sum(axis=1), wall)
        half = 0.0 if math.isinf(half) else half
        low, high = max(0.0, share - half), min(1.0, share + half)
        found[phase] = Phase(share=share, low=low, high=high, ms=share * mean_ms)
    return found
