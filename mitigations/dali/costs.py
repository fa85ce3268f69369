"""What DALI's batches cost, written where the record has what batches of other loaders cost.

All threads together: a batch that two threads work on for 3 ms costs 6, as it would in a worker.
Transforms are not told apart: DALI runs them as one.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable

from speedprof.mitigations.dali.batches import Read
from speedprof.mitigations.dali.threads import Spent, counted, spent, spent_by

FOLDER = "SPEEDPROF_RUN"  # variable: where the record is
LOADER = "SPEEDPROF_LOADER"  # variable: the loader whose pass begins
EVERY_NS = 500_000_000
THREAD = -1  # in place of a worker's number: this process
NAMES = (
    "batches", "samples", "getitem_ns", "getitem_cpu_ns", "collate_ns", "collate_cpu_ns",
    "queued_ns", "read_bytes",
)  # fmt: skip


class Ledger:
    """Sums of one loader, appended to the record now and then; a full disk ends it."""

    def __init__(self, folder: str, loader: int) -> None:
        name = f"worker-{os.uname().nodename}-{os.getpid()}-dali-{loader}.jsonl"
        self._path = os.path.join(folder, name)
        self._loader = loader
        self._lock = threading.Lock()
        self._counted = counted()
        self._sums = dict.fromkeys(NAMES, 0)
        self._due = 0

    def made(self, samples: int, lane: Spent, pipeline: Spent, read: Read) -> None:
        """Add a batch: what its lane, DALI's threads and the readers spent on it."""
        whole = lane + pipeline + read.by_others
        with self._lock:
            self._sums["batches"] += 1
            self._sums["samples"] += samples
            if self._counted:
                self._sums["getitem_ns"] += whole.cpu_ns + whole.queued_ns + read.waited_ns
                self._sums["getitem_cpu_ns"] += whole.cpu_ns
                self._sums["queued_ns"] += whole.queued_ns
            else:
                self._sums["getitem_ns"] += lane.wall_ns
                self._sums["getitem_cpu_ns"] = self._sums["queued_ns"] = -1
            known = self._sums["read_bytes"] >= 0 and read.read_bytes >= 0
            self._sums["read_bytes"] = self._sums["read_bytes"] + read.read_bytes if known else -1
        if time.perf_counter_ns() > self._due:
            self.flush()

    def collated(self, time_spent: Spent) -> None:
        """Add what the training thread spent on putting a batch together."""
        with self._lock:
            self._sums["collate_ns"] += time_spent.wall_ns
            self._sums["collate_cpu_ns"] += time_spent.cpu_ns

    def flush(self) -> None:
        with self._lock:
            sums, self._sums = self._sums, dict.fromkeys(NAMES, 0)
            self._due = time.perf_counter_ns() + EVERY_NS
        if not sums["batches"]:
            return
        line = {
            "loader": self._loader,
            "worker": THREAD,
            **sums,
            "disk_bytes": -1,
            "transforms": {},
            "at": round(time.time(), 3),
        }
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError:
            self._due = 1 << 62


def ledger() -> Ledger | None:
    """Return the ledger of the loader whose pass begins; None where nothing is recorded."""
    folder, loader = os.environ.get(FOLDER), os.environ.get(LOADER, "")
    return Ledger(folder, int(loader)) if folder and loader.isdigit() else None


class Meter:
    """What the lane's thread and a pipeline's threads spend from here on."""

    def __init__(self, threads: Iterable[int]) -> None:
        self._threads = tuple(threads)
        self._lane, self._pipeline = spent(), spent_by(self._threads)

    def read(self) -> tuple[Spent, Spent]:
        return spent() - self._lane, spent_by(self._threads) - self._pipeline
