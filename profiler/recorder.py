"""Writes one training process's record as it goes, and gives up quietly where the disk does."""

from __future__ import annotations

import os
import time
from array import array

from speedprof.profiler import record

FLUSH_NS = 500_000_000  # a crash loses at most this much
FACTS_LIMIT = 8 << 20  # bytes of facts; rows have their own bound


class Recorder:
    """Owns `rank-<host>-<pid>.rec`; opens it with the first fact or row."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._writer: record.Writer | None = None
        self._dead = False
        self._buffer = array("q")
        self._thinner = record.Thinner()
        self._flushed = 0
        self._fact_bytes = 0
        self.stem = f"{os.uname().nodename}-{os.getpid()}"

    @property
    def opened(self) -> bool:
        return self._writer is not None

    def beside(self, name: str) -> str:
        """Return the path of a file of the run that all its processes share."""
        return os.path.join(self._folder, name)

    def path(self, kind: str, ending: str) -> str:
        return os.path.join(self._folder, f"{kind}-{self.stem}{ending}")

    def open(self, process: dict[str, object]) -> None:
        """Begin the file with what is known of the process."""
        if self._writer is not None or self._dead:
            return
        try:
            self._writer = record.Writer(self.path("rank", ".rec"))
        except OSError:
            self._dead = (
                True  # training goes on unrecorded; the launcher finds no record and says so
            )
            return
        self.fact("process", process)

    def fact(self, fact: str, content: dict[str, object]) -> None:
        if self._writer is None or self._fact_bytes > FACTS_LIMIT:
            return
        try:
            self._fact_bytes += self._writer.fact(fact, content)
        except OSError:
            self._give_up()

    def row(self, row: list[int]) -> bool:
        """Take a step's row; return whether it was time to write."""
        kept = self._thinner.add(row)
        if kept is not None:
            self._buffer.extend(kept)
        now = time.perf_counter_ns()
        if now - self._flushed < FLUSH_NS:
            return False
        self._flushed = now
        self.flush()
        return True

    def flush(self) -> None:
        if self._writer is None or not self._buffer:
            return
        try:
            self._writer.rows(self._buffer)
        except OSError:
            self._give_up()
        self._buffer = array("q")

    def close(self) -> None:
        rest = self._thinner.flush()
        if rest is not None:
            self._buffer.extend(rest)
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def forget(self) -> None:
        """In a forked child: leave the parent's file alone."""
        self._writer, self._buffer = None, array("q")

    def _give_up(self) -> None:
        self._dead, self._writer = True, None
