"""The device's own clock at the boundaries that the host passes.

CUDA events, read only when they are ready.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from speedprof.profiler.record import COLUMN

WALL, DEVICE_WALL = COLUMN["wall"], COLUMN["device_wall"]
DEVICE_WAIT = COLUMN["device_input_wait"]
MOST_PENDING = 256  # steps the device may be behind before we stop waiting for its clock
MOST_MARKS = 4_096
DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def device_possible() -> bool:
    """Tell whether there may be a GPU without initialising CUDA: that would spoil a fork."""
    return any(os.path.exists(path) for path in DEVICE_FILES)


class DeviceClock:
    """Marks moments on the current stream and later says how far apart the device passed them.

    Never synchronises: rows wait until the event at their end is done.
    """

    def __init__(self) -> None:
        self.possible = device_possible()
        self._marks: dict[int, Any] = {}  # host time -> event
        self._waits: deque[tuple[int, Any, Any]] = (
            deque()
        )  # (host time, event when asked, event when received)
        self._rows: deque[tuple[list[int], Any, Any, list[tuple[Any, Any]]]] = deque()

    def mark(self, now: int) -> Any:
        """Record an event; None where no device is in use or a graph is being captured."""
        if not self.possible:
            return None
        import torch

        if not torch.cuda.is_initialized() or torch.cuda.is_current_stream_capturing():
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        if len(self._marks) > MOST_MARKS:  # no step has ended for long: this is not training
            self._marks.clear()
            self._waits.clear()
        self._marks[now] = event
        return event

    def waited(self, now: int, asked: Any) -> None:
        """The host waited for input since the event `asked`."""
        if asked is not None:
            self._waits.append((now, asked, self.mark(now)))

    def attach(self, row: list[int]) -> list[list[int]]:
        """Take a row; return the rows, in order, whose device times are known or given up."""
        if not self._marks and not self._rows:
            return [row]
        end = row[0] + row[WALL]
        waits = []
        while self._waits and self._waits[0][0] <= end:
            _, asked, received = self._waits.popleft()
            if received is not None:
                waits.append((asked, received))
        self._rows.append((row, self._marks.get(row[0]), self._marks.get(end), waits))
        self._forget_before(end)
        return self._ready()

    def drain(self) -> list[list[int]]:
        """Return all rows that still wait; device times that are not ready stay unmeasured."""
        rows = self._ready()
        rows += [row for row, *_ in self._rows]
        self._rows.clear()
        return rows

    def _ready(self) -> list[list[int]]:
        rows = []
        while self._rows:
            row, begin, end, waits = self._rows[0]
            known = begin is not None and end is not None
            if known and not end.query() and len(self._rows) < MOST_PENDING:
                break
            self._rows.popleft()
            if known and end.query():
                row[DEVICE_WALL] = _ns(begin, end)
                row[DEVICE_WAIT] = sum(_ns(asked, received) for asked, received in waits)
            rows.append(row)
        return rows

    def _forget_before(self, now: int) -> None:
        for moment in [moment for moment in self._marks if moment < now]:
            del self._marks[moment]


def _ns(begin: Any, end: Any) -> int:
    return int(begin.elapsed_time(end) * 1e6)
