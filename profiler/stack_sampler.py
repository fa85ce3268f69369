"""Looks at the training thread's Python stack while a window is open, 200 times a second or so."""

from __future__ import annotations

import os
import sys
import threading
import time
from array import array
from types import CodeType, FrameType

INTERVAL_S = 0.005
# A stretch of a step that nobody saw counts as the loop's own Python: a step is looked at so
# often, as far as LEAST_S allows. A look takes the interpreter for some 20 us.
LOOKS = 8
LEAST_S = 0.0005
# Intervals between a half and one and a half of that, spread by the golden ratio's multiples:
# equal ones would fall into step with a loop of 5 ms and see one place of it alone.
GOLDEN = 0.6180339887
# How soon the training thread gives us the interpreter while it runs Python. With Python's own
# 5 ms, shorter stretches would be over before they are seen, and what comes after them blamed.
SWITCH_S = 0.0001
DEPTH = 60  # frames, innermost first
MOST_TRAINING = 50  # places of backward passes
CO_GENERATOR, CO_ASYNC_GENERATOR = 0x20, 0x200
SCHEDSTAT_FIELDS = 3

Frame = tuple[CodeType, int]


def interval_s(step_ns: int) -> float:
    """Return how long to wait between two looks where a step takes `step_ns`."""
    return min(max(step_ns / 1e9 / LOOKS, LEAST_S), INTERVAL_S)


class StackSampler:
    """A second thread that samples one other thread between `start` and `stop`."""

    def __init__(self, thread: threading.Thread, wait_s: float = INTERVAL_S) -> None:
        self._wait_s = wait_s
        self._ident = thread.ident or 0
        self._native = thread.native_id or 0
        self._stop = threading.Event()
        self._stacks: dict[tuple[Frame, ...], int] = {}
        self._at, self._stack = array("q"), array("q")
        self._cpu, self._queued = array("q"), array("q")
        self._training: dict[tuple[Frame, ...], None] = {}
        self._own = threading.Thread(target=self._run, name="speedprof-sampler", daemon=True)

    def start(self) -> None:
        self._users_switch_s = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_S, self._users_switch_s))
        self._own.start()

    def stop(self) -> dict[str, array[int]]:
        """Stop, and return the columns of the `sample` table."""
        self._stop.set()
        if self._own.ident is not None:  # it was started
            self._own.join()
            sys.setswitchinterval(self._users_switch_s)
        return {"at": self._at, "stack": self._stack, "cpu": self._cpu, "queued": self._queued}

    def trains(self, frame: FrameType) -> None:
        """Remember where the training thread, which calls this, runs its backward pass."""
        if len(self._training) < MOST_TRAINING:
            self._training[_walk(frame)] = None

    def training(self) -> list[int]:
        """Return the stacks of backward passes, once the sampling is over."""
        return [self._stacks.setdefault(s, len(self._stacks)) for s in self._training]

    def tables(self) -> tuple[list[list[object]], list[list[int]]]:
        """Return (frames, stacks) for the window's header, once the sampling is over."""
        self.training()
        numbers: dict[Frame, int] = {}
        stacks = [
            [numbers.setdefault(frame, len(numbers)) for frame in stack] for stack in self._stacks
        ]
        return [_described(code, line) for code, line in numbers], stacks

    def _run(self) -> None:
        clock = time.pthread_getcpuclockid(self._ident)
        queue = _open_schedstat(self._native)
        cpu, queued = time.clock_gettime_ns(clock), _queued_ns(queue)
        while not self._stop.wait(self._wait_s * (0.5 + len(self._at) * GOLDEN % 1)):
            frame = sys._current_frames().get(self._ident)
            if frame is None:
                break  # the thread has ended
            now, stack = time.perf_counter_ns(), _walk(frame)
            try:
                cpu_now, queued_now = time.clock_gettime_ns(clock), _queued_ns(queue)
            except OSError:
                break  # it has ended since
            self._at.append(now)
            self._stack.append(self._stacks.setdefault(stack, len(self._stacks)))
            self._cpu.append(cpu_now - cpu)
            self._queued.append(
                -1 if queued_now is None or queued is None else queued_now - queued
            )
            cpu, queued = cpu_now, queued_now
        if queue is not None:
            os.close(queue)


def _walk(frame: FrameType | None) -> tuple[Frame, ...]:
    stack: list[Frame] = []
    while frame is not None and len(stack) < DEPTH:
        stack.append((frame.f_code, frame.f_lineno or 0))
        frame = frame.f_back
    return tuple(stack)


def _described(code: CodeType, line: int) -> list[object]:
    generator = bool(code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))
    return [code.co_filename, line, getattr(code, "co_qualname", code.co_name), generator]


def _open_schedstat(native_id: int) -> int | None:
    try:
        return os.open(f"/proc/self/task/{native_id}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # no such kernel interface: not measured


def _queued_ns(descriptor: int | None) -> int | None:
    """Return how long (ns) the thread was ready but had no core: schedstat's second field."""
    if descriptor is None:
        return None
    fields = os.pread(descriptor, 128, 0).split()
    return int(fields[1]) if len(fields) >= SCHEDSTAT_FIELDS else None
