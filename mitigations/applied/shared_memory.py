"""Memory that a process and those that it forks fill together, up to a limit."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Sequence

from speedprof.profiler import node

LINE = 64  # bytes; what is kept begins at a line of the cache
NEXT, REFUSED = 0, 1  # words of the header: the first free byte, what found no room
TRIES = 20


class Shared:
    """A piece of memory from which pieces are taken, and never given back one by one.

    Reserving takes a lock of the system, which ends with its process; nothing ever waits for it.
    What is written is seen by all of the processes; each sees to it that it writes to a piece of
    its own.
    """

    def __init__(self, size: int) -> None:
        """Map so many bytes, none of which is taken before it is written; may raise OSError."""
        self.size = whole(size)
        self._memory = mmap.mmap(-1, self.size)
        self._bytes = memoryview(self._memory)
        self.words = self._bytes.cast("q")
        self.words[NEXT] = LINE
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - its lock is needed to the end
        self._threads = threading.Lock()

    @property
    def used(self) -> int:
        return self.words[NEXT]

    def reserve(self, size: int) -> int | None:
        """Return where `size` bytes begin that are this process's own; None where it got none."""
        if not self._threads.acquire(blocking=False):
            return None
        try:
            if not self._lock():
                return None
            try:
                begin, end = self.words[NEXT], self.words[NEXT] + whole(size)
                if end > self.size:
                    self.words[REFUSED] += 1
                    return None
                self.words[NEXT] = end
                return begin
            finally:
                self._unlock()
        finally:
            self._threads.release()

    def write(self, begin: int, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write parts one behind the other, each from a line of its own."""
        for part in parts:
            self._bytes[begin : begin + len(part)] = part
            begin += whole(len(part))

    def view(self, begin: int, size: int | None = None) -> memoryview:
        return self._bytes[begin : None if size is None else begin + size]

    def close(self) -> None:
        """Give the memory back; processes that were forked give back theirs as they end."""
        with contextlib.suppress(BufferError):  # a sample is being read: the last one
            self.words.release()
            self._bytes.release()
            self._memory.close()
        self._file.close()

    def _lock(self) -> bool:
        import fcntl

        for _ in range(TRIES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # noqa: PERF203 - another process holds it for a moment
                time.sleep(0)
            else:
                return True
        return False

    def _unlock(self) -> None:
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_UN)


def whole(size: int) -> int:
    """Return the bytes of as many lines as so many bytes need."""
    return -(-size // LINE) * LINE


def free_bytes() -> int | None:
    """Return the memory that could still be taken here; None where the system does not tell.

    The limits of its cgroups count, too: a container's, a batch job's.
    """
    free = [_available(), node.memory_left()]
    return min((one for one in free if one is not None), default=None)


def _available() -> int | None:
    for line in _text("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def ranks_here() -> int:
    """Return how many training processes share this machine, as their launcher says.

    Where it says nothing, all of the job's may: a script that spawns its ranks itself.
    """
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    if told.isdigit():
        return max(int(told), 1)
    from torch import distributed

    whole = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if whole else 1
