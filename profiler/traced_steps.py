"""Whether the steps that windows traced are like the others, whose time they are to split.

A profiler's threads keep cores awake, and a script may do other things in its first steps than
later: traced steps may then be shorter or longer than the rest. What the probes count on every
step does not suffer from that, but how the remainder is split does, and readers should know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.phases import TRACING_NS
from speedprof.profiler.record import COLUMN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from speedprof.profiler.reduced import ReducedWindow

UNLIKE = 0.10  # of the usual step: more than ordinary steps' medians differ from run to run
COUNTED = ("input_wait", "input_start", "checkpoint", "evaluation", "between")
FEWEST = 3  # of each kind of step; fewer have no median to speak of


def unlike(
    untraced: NDArray[np.int64], traced: NDArray[np.int64], windows: Sequence[ReducedWindow]
) -> list[str]:
    """Return the sentence that says so where the medians differ by more than tracing explains."""
    seen = {start for window in windows for start in window.starts}
    rows = traced[np.isin(traced[:, COLUMN["start"]], list(seen))]
    if len(rows) < FEWEST or len(untraced) < FEWEST:
        return []
    usual, found = _split_ns(untraced), _split_ns(rows)
    events = sum(window.events for window in windows) / max(len(seen), 1)
    longer, shorter = found - TRACING_NS * events - usual, usual - found
    step = float(np.median(untraced[:, COLUMN["wall"]] / untraced[:, COLUMN["count"]]))
    if max(longer, shorter) <= UNLIKE * step:
        return []
    said = (
        f"beside loading and pauses the traced steps took {found / 1e6:.3g} ms, the others "
        f"{usual / 1e6:.3g} ms (median), so how computing, the host and communication share "
        "that time rests on unusual steps"
    )
    return [said]


def _split_ns(rows: NDArray[np.int64]) -> float:
    """Return the median of what windows split of a step: all that the probes do not count."""
    counted = sum(np.maximum(rows[:, COLUMN[name]], 0) for name in COUNTED)
    return float(np.median((rows[:, COLUMN["wall"]] - counted) / rows[:, COLUMN["count"]]))
