"""What threads cost: wall time, time on a core, time in the queue for one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

TASKS = "/proc/self/task"


@dataclass(frozen=True)
class Spent:
    """Nanoseconds of one thread, or of several together; on a core: -1 where unknown."""

    wall_ns: int = 0
    cpu_ns: int = 0
    queued_ns: int = 0

    def __sub__(self, before: Spent) -> Spent:
        return Spent(
            self.wall_ns - before.wall_ns,
            self.cpu_ns - before.cpu_ns,
            self.queued_ns - before.queued_ns,
        )

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.wall_ns + other.wall_ns,
            self.cpu_ns + other.cpu_ns,
            self.queued_ns + other.queued_ns,
        )

    @property
    def waited_ns(self) -> int:
        """Neither on a core nor waiting for one: for storage, a lock, another thread."""
        return max(0, self.wall_ns - self.cpu_ns - self.queued_ns)


def spent() -> Spent:
    """Return what this thread has cost since it began."""
    queued = _schedstat("thread-self")[1]
    return Spent(time.perf_counter_ns(), time.thread_time_ns(), queued)


def spent_by(threads: Iterable[int]) -> Spent:
    """Return what these threads of this process have cost together, but for wall time."""
    found = [_schedstat(f"self/task/{thread}") for thread in threads]
    return Spent(0, sum(cpu for cpu, _ in found), sum(queued for _, queued in found))


def counted() -> bool:
    """Tell whether the kernel counts what threads spend on cores and in the queue for them."""
    return os.access("/proc/thread-self/schedstat", os.R_OK)


def alive() -> set[int]:
    """Return the numbers of all threads of this process; none where the system does not say."""
    try:
        return {int(name) for name in os.listdir(TASKS)}
    except OSError:
        return set()


def _schedstat(thread: str) -> tuple[int, int]:
    """Return time on a core and in the queue, 0 where the kernel does not count them."""
    try:
        with open(f"/proc/{thread}/schedstat", "rb", buffering=0) as file:
            fields = file.read(128).split()
    except OSError:
        return 0, 0
    return int(fields[0]), int(fields[1])
