"""What windows saw exactly, held against what is estimated of the very same steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from speedprof.profiler import exact_phases, reading
from speedprof.profiler.batch_sources import batch_sources
from speedprof.profiler.phases import estimated
from speedprof.profiler.record import COLUMN
from speedprof.profiler.reduced import ReducedWindow


def disagreements(folder: Path) -> list[str]:
    """Return the phases whose two intervals, over a process's traced steps, lie apart."""
    found = []
    for path in sorted(folder.glob("rank-*.rec")):
        process = path.stem.removeprefix("rank-")
        windows = _windows(sorted(folder.glob(f"window-{process}-*.json")))
        assert windows, f"no window of {process} was recorded"
        found += _apart(reading.read_record(path), windows)
    return found


def _windows(paths: list[Path]) -> list[ReducedWindow]:
    read = map(reading.read_window, paths)
    return [window for window in read if window is not None and window.unusable is None]


def _apart(record: reading.Record, windows: list[ReducedWindow]) -> list[str]:
    starts = [start for window in windows for start in window.starts]
    rows = record.rows[np.isin(record.rows[:, COLUMN["start"]], starts)]
    sources = batch_sources(windows)
    by_label = exact_phases.labelled(rows, windows, sources)
    assert by_label is not None
    exact = exact_phases.phases(by_label, float(rows[:, COLUMN["wall"]].mean()) / 1e6)
    guess = estimated(rows, windows, sources, traced=rows, device="cpu").phases
    return [
        f"{name}: windows {one.low:.3f} to {one.high:.3f}, "
        f"estimated {guess[name].low:.3f} to {guess[name].high:.3f}"
        for name, one in exact.items()
        if one.low > guess[name].high or one.high < guess[name].low
    ]
