"""How busy other programs keep the machine while something is measured. Runs in the launcher."""

from __future__ import annotations

import os
import time

SHORTEST_S = 0.2  # the kernel counts CPU time in hundredths of seconds


class Load:
    """Watches some cores; what the measurement itself uses is told from outside."""

    def __init__(self, cpus: frozenset[int]) -> None:
        self._cpus = cpus
        self._before = (0.0, 0.0, 0.0)

    def begin(self, ours_s: float) -> None:
        """Begin to watch; `ours_s` is the CPU time that the measuring process had until now."""
        self._before = self._now(ours_s)

    def end(self, ours_s: float) -> float | None:
        """Return how many cores others kept busy since the beginning, None after a moment."""
        pairs = zip(self._now(ours_s), self._before, strict=True)
        seconds, busy, ours = (now - before for now, before in pairs)
        if seconds < SHORTEST_S:
            return None
        return min(max(0.0, busy - ours) / seconds, float(len(self._cpus)))

    def _now(self, ours_s: float) -> tuple[float, float, float]:
        own = os.times()
        return time.monotonic(), self._busy_s(), ours_s + own.user + own.system

    def _busy_s(self) -> float:
        import psutil

        each = psutil.cpu_times(percpu=True)
        watched = [one for number, one in enumerate(each) if number in self._cpus] or each
        return sum(sum(one[:8]) - one.idle - one.iowait for one in watched)
