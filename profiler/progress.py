"""How far the training has come, read from the growing end of its records."""

from __future__ import annotations

import json
import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from speedprof.profiler.record import (
    COLUMN,
    DISTURBED,
    FACT,
    HEADER,
    STEP_COLUMNS,
    STEPS,
    TRACED,
    frames,
)

RECENT = 50  # rows that "so far" means, at least; and half of all rows
MOST_BYTES = 1 << 20  # read at a time
SHOWN = {  # what the always-on probes see of a step, and how the line names it
    "input_wait": "waiting for input",
    "backward": "backward",
    "optimizer": "optimizer",
    "collective": "communication",
    "synchronise": "synchronising",
    "copy": "copying to the device",
    "checkpoint": "checkpoints",
    "evaluation": "evaluation",
}


@dataclass
class Progress:
    """What is known of one training process so far."""

    steps: int = 0
    step_ms: float | None = None  # mean of the recent, undisturbed steps
    shares: dict[str, float] = field(default_factory=dict)  # of step time, by SHOWN's keys
    draws: bool = False  # the script draws on the terminal itself
    ended: bool = False  # the record is complete, or measuring was told to stop
    stopped: bool = False  # by --stop-after


class Follower:
    """Reads what a record has gained since the last look; damage is passed over."""

    def __init__(self, path: Path) -> None:
        self.progress = Progress()
        self._path = path
        self._position = 0
        self._rows: list[array[int]] = []

    def look(self) -> Progress:
        """Read on; a file that is gone, or not yet there, changes nothing."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                gained = file.read(MOST_BYTES)
        except OSError:
            return self.progress
        for kind, payload, skipped in frames(gained):
            if not kind:
                break  # a frame that is not whole yet
            self._position += skipped + HEADER.size + len(payload)
            if kind == FACT:
                self._learn(payload)
            elif kind == STEPS:
                self._count(payload)
        self._sum_up()
        return self.progress

    def _learn(self, payload: bytes) -> None:
        try:
            fact = json.loads(payload)
        except ValueError:
            return
        named = fact.get("fact") if isinstance(fact, dict) else None
        if named == "draws":
            self.progress.draws = bool(fact.get("modules"))
        elif named in ("detached", "end"):
            self.progress.ended = True
            self.progress.stopped = self.progress.stopped or fact.get("stopped") is True

    def _count(self, payload: bytes) -> None:
        values = array("q")
        width = len(STEP_COLUMNS)
        values.frombytes(payload[: len(payload) // (8 * width) * 8 * width])
        for start in range(0, len(values), width):
            row = values[start : start + width]
            self.progress.steps += row[COLUMN["count"]]
            if not row[COLUMN["flags"]] & (TRACED | DISTURBED):
                self._rows.append(row)

    def _sum_up(self) -> None:
        recent = self._rows = self._rows[-RECENT:]
        wall = sum(row[COLUMN["wall"]] for row in recent)
        if not wall:
            return
        self.progress.step_ms = wall / sum(row[COLUMN["count"]] for row in recent) / 1e6
        self.progress.shares = {
            name: sum(row[COLUMN[name]] for row in recent) / wall
            for name in SHOWN
            if name in COLUMN
        }


class Followers:
    """All records of a run folder; the one that has come furthest speaks for the run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Follower] = {}

    def look(self) -> Progress | None:
        """Return how far the run has come, None before its first record."""
        try:
            names = [name for name in os.listdir(self._folder) if name.startswith("rank-")]
        except OSError:
            return None
        for name in names:
            if name not in self._known:
                self._known[name] = Follower(self._folder / name)
        seen = [follower.look() for follower in self._known.values()]
        if not seen:
            return None
        furthest = max(seen, key=lambda progress: progress.steps)
        furthest.draws = any(progress.draws for progress in seen)
        return furthest

    def stopped(self) -> bool:
        """Return whether `--stop-after` ended a process."""
        return any(follower.progress.stopped for follower in self._known.values())
