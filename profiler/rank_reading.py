"""The training processes of a run folder, read one after the other so that a thousand fit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from speedprof.profiler import reading
from speedprof.profiler import record_facts as facts
from speedprof.profiler.ranks import Trained, slim, trained

if TYPE_CHECKING:
    from pathlib import Path

    from speedprof.profiler.reduced import ReducedWindow

DETAILED = 8  # ranks, the first ones, whose steps are drawn
MOST_COLLECTIVES = 500_000  # of all ranks together, 160 bytes each
Owner = tuple[str, int]  # host and process


def read_ranks(folder: Path, warmup: int, notes: list[str]) -> list[Trained]:
    """Read every training process; return them by rank, and add to `notes` what is missing."""
    windows = _owners(folder, notes)
    records = sorted(folder.glob("rank-*.rec"))
    found: dict[int, Trained] = {}
    aside = 0
    for path in records:
        record = reading.read_record(path)
        process = record.last("process", facts.Process)
        mine = windows.pop((process.host, process.pid), []) if process else []
        most = MOST_COLLECTIVES // len(records)
        part = trained(record, _windows(mine, notes), warmup, most_collectives=most)
        notes.extend(record.damage)
        if part is None:
            continue
        other = found.get(part.rank.rank)
        aside += other is not None
        if other is None or part.steps > other.steps:
            found[part.rank.rank] = replace(part, files=tuple(mine))
            _slim_one(found)
    if aside:
        notes.append(f"{aside} more processes trained or used loaders; the longest is shown")
    return [found[rank] for rank in sorted(found)]


def _owners(folder: Path, notes: list[str]) -> dict[Owner, list[Path]]:
    """Return which windows are whose; only as much of them is read as that takes."""
    windows: dict[Owner, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("window-*.json")):
        owner = reading.window_owner(path)
        if owner is None:
            notes.append(_damaged(path))
        else:
            windows[owner].append(path)
    damaged = len(list(folder.glob("window-*.damaged")))
    if damaged:
        notes.append(f"{damaged} windows could not be read and were left out")
    return windows


def _windows(paths: list[Path], notes: list[str]) -> list[ReducedWindow]:
    windows = []
    for path in paths:
        window = reading.read_window(path)
        if window is None:
            notes.append(_damaged(path))
        else:
            windows.append(window)
    return sorted(windows, key=lambda window: window.index)


def _damaged(path: Path) -> str:
    return f"{path.name} is damaged and was left out"


def _slim_one(found: dict[int, Trained]) -> None:
    """Keep the details of the first ranks only, whatever the order in which they are read."""
    detailed = sorted(rank for rank, part in found.items() if part.series is not None)
    for rank in detailed[DETAILED:]:
        found[rank] = slim(found[rank])
