"""What a batch costs where it is made: `__getitem__`, `collate`, each transform.

Runs in loader workers, and in the training thread of loaders without workers. Only some batches
are looked at, so that the loop does not feel it; every number is per batch looked at.
"""

from __future__ import annotations

import json
import os
import time
from threading import get_native_id
from typing import Any

EVERY_NS = 20_000_000  # at most so often: a look costs 30 us in a short step
# Where a long step has driven our code out of the caches, a look costs 200 us; the next one then
# comes so many times later. What it sees of itself is about half, so this is 0.04 %.
REST = 5_000
FLUSH_NS = 500_000_000  # doubles after each 500 lines, so that the file stays small
LINES_PER_LEVEL = 500
LOADER_VARIABLE = "SPEEDPROF_LOADER"  # tells a worker which loader it works for


class WorkerTelemetry:
    """Sums the costs of batches and appends them to `worker-<host>-<pid>.jsonl`."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, f"worker-{os.uname().nodename}-{os.getpid()}.jsonl")
        self._descriptor = -1
        self._schedstat = self._io = -1
        self._thread = 0  # native id of the thread that these two are about
        self.due = 0  # perf_counter ns of the next look
        self._flushed = 0
        self._interval, self._lines = FLUSH_NS, 0
        self._sums: dict[int, dict[str, Any]] = {}
        self.looking = False  # a batch is being looked at: transforms are timed, too
        self._collate = [0, 0]
        self._before: tuple[int, ...] = ()
        self._own_ns = 0  # of the look in progress
        self._loader = self._worker = -1
        self.watch_end = True  # workers end without atexit

    def begins(self, loader: int, worker: int) -> bool:
        """A batch is about to be made, and it is time to look at one.

        Return whether it is looked at.
        """
        if self.looking:
            return False
        begin = time.perf_counter_ns()
        self._loader, self._worker = loader, worker
        self.looking, self._collate = True, [0, 0]
        self._before = self._reading()
        self._own_ns = self._before[0] - begin
        return True

    def collated(self, wall: int, cpu: int) -> None:
        self._collate[0] += wall
        self._collate[1] += cpu

    def transformed(self, name: str, wall: int) -> None:
        transforms = self._sum()["transforms"]
        entry = transforms.setdefault(name, [0, 0])
        entry[0] += wall
        entry[1] += 1

    def ends(self, samples: int) -> None:
        """The batch is made."""
        begin = time.perf_counter_ns()
        after = self._reading()
        self.looking = False
        wall, cpu, queued, read, disk = (b - a for a, b in zip(self._before, after, strict=True))
        total = self._sum()
        total["batches"] += 1
        total["samples"] += samples
        total["getitem_ns"] += wall - self._collate[0]
        total["getitem_cpu_ns"] += cpu - self._collate[1]
        total["collate_ns"] += self._collate[0]
        total["collate_cpu_ns"] += self._collate[1]
        for name, value, known in (
            ("queued_ns", queued, self._schedstat >= 0),
            ("read_bytes", read, self._io >= 0),
            ("disk_bytes", disk, self._io >= 0),
        ):
            total[name] = total[name] + value if known else -1
        if after[0] - self._flushed > self._interval:
            self.flush()
        end = time.perf_counter_ns()
        self.due = end + max(EVERY_NS, REST * (self._own_ns + end - begin))

    def abandon(self) -> None:
        """The batch that was looked at failed; the user's error goes its way."""
        self.looking = False

    def flush(self) -> None:
        """Append what was summed since the last time.

        A full disk ends the telemetry, not the worker.
        """
        sums, self._sums = self._sums, {}
        self._flushed = time.perf_counter_ns()
        at = round(time.time(), 3)
        lines = [
            json.dumps({"loader": n, "worker": self._worker, **s, "at": at})
            for n, s in sums.items()
            if s["batches"]
        ]
        if not lines:
            return
        self._lines += len(lines)
        if self._lines >= LINES_PER_LEVEL:
            self._lines, self._interval = 0, self._interval * 2
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(
                    self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
                )
            os.write(self._descriptor, ("\n".join(lines) + "\n").encode())
        except OSError:
            self._interval = 1 << 62

    def _sum(self) -> dict[str, Any]:
        empty = dict.fromkeys(
            (
                "batches",
                "samples",
                "getitem_ns",
                "getitem_cpu_ns",
                "collate_ns",
                "collate_cpu_ns",
                "queued_ns",
                "read_bytes",
                "disk_bytes",
            ),
            0,
        )
        return self._sums.setdefault(self._loader, {**empty, "transforms": {}})

    def _reading(self) -> tuple[int, ...]:
        """Return wall, CPU, queued (ns), bytes read, bytes from the device, of this thread."""
        if get_native_id() != self._thread:
            self._look_at_this_thread()
        queued = int(os.pread(self._schedstat, 128, 0).split()[1]) if self._schedstat >= 0 else 0
        read = disk = 0
        if self._io >= 0:
            fields = os.pread(self._io, 512, 0).split()
            read, disk = int(fields[1]), int(fields[9])
        return time.perf_counter_ns(), time.thread_time_ns(), queued, read, disk

    def _look_at_this_thread(self) -> None:
        """Open what the kernel counts of this thread: another one made the batches until now."""
        for descriptor in (self._schedstat, self._io):
            if descriptor >= 0:
                os.close(descriptor)
        self._schedstat, self._io = _opened("schedstat"), _opened("io")
        self._thread = get_native_id()


def _opened(name: str) -> int:
    try:
        return os.open(f"/proc/thread-self/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
