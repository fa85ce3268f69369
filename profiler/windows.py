"""A few consecutive steps under torch.profiler, copied out as columns; nothing between windows."""

from __future__ import annotations

import functools
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from speedprof.profiler import facts, other_threads, window_file
from speedprof.profiler.record import DISTURBED, TRACED
from speedprof.profiler.recorder import Recorder
from speedprof.profiler.stack_sampler import StackSampler
from speedprof.profiler.steps import FLAGS, WALL, Tracker

STEPS = 4  # of a window
MOST = 8  # windows of a run
# untraced steps after the first window; doubles each time, so that long runs are seen late too
FIRST_GAP = 8
NEVER = 1 << 62
MANY_EVENTS = 200_000  # a window that held so many is followed by windows of one step


class Windows:
    """Decides when to trace, traces, and hands the columns to a file."""

    def __init__(self, recorder: Recorder, tracker: Tracker, warmup: int) -> None:
        self._recorder, self._tracker = recorder, tracker
        self._next = warmup
        self._gap = FIRST_GAP
        self._steps = STEPS
        self.count = 0
        self._open: _Window | None = None
        self._closed: list[_Window] = []  # whose steps are not all finished yet
        self._others = False  # somebody else profiles
        self.busy = False  # we are inside torch's profiler calls ourselves
        self.guard: Callable[[str, Callable[..., Any]], Callable[..., Any]] = lambda _, own: own

    @property
    def is_open(self) -> bool:
        return self._open is not None

    @property
    def next_step(self) -> int:
        """Return how many steps are over when something is due; 0: with every one."""
        return 0 if self._open is not None else self._next

    def at_boundary(self, now: int, cut: bool) -> int:
        """Open or close a window if it is time; return where the boundary is.

        `cut`: the step ended in the past and the next one is under way. The time that opening
        takes goes to the step before the window, that of closing to the step after it; both are
        marked as disturbed.
        """
        tracker = self._tracker
        finished = tracker.steps + (0 if cut else 1)
        if self._open is not None:
            self._open.passed += 1
            if self._open.passed >= self._open.needed:
                self.close()
                tracker.once = DISTURBED
                self._next = finished + self._gap
                self._gap *= 2
            return now
        if finished < self._next or self._enough():
            return now
        tracker.row[FLAGS] |= TRACED if cut else DISTURBED
        self._open_window(finished + (1 if cut else 0), self._steps + (1 if cut else 0))
        return time.perf_counter_ns()

    def emitted(self, row: list[int]) -> None:
        """Take a finished step's row; write the windows whose last step this was."""
        for window in [*self._closed, *([self._open] if self._open else [])]:
            if row[0] >= window.began and (not window.ended or row[0] + row[WALL] <= window.ended):
                window.boundaries.append((row[0], row[0] + row[WALL]))
        for window in [w for w in self._closed if row[0] + row[WALL] >= w.ended]:
            self._closed.remove(window)
            self._write(window)

    def close(self) -> None:
        """End the open window, if there is one.

        Its file is written once its last step is known.
        """
        window = self._open
        if window is None:
            return
        self._tracker.log, self._tracker.flags = None, 0
        if not window.own_thread():
            self._open = None
            window.abandon()
            self.stop()
            self._recorder.fact("no_window", {"why": "the traced thread could not be reached"})
            return
        with self._torch_busy(window):
            window.end()
        self._open = None
        self._closed.append(window)
        if window.events > MANY_EVENTS:
            self._steps = 1
        if self.count >= MOST:
            self.stop()

    def finish(self) -> None:
        """Close, and write what there is."""
        self.close()
        for window in self._closed:
            self._write(window)
        self._closed.clear()

    def give_way(self) -> None:
        """Somebody else starts a profiler: torch allows one at a time, and theirs counts."""
        if self.busy:
            return
        self.close()
        self.stop()
        if not self._others:
            self._others = True
            self._recorder.fact("no_window", {"why": "the script uses torch.profiler itself"})

    def _thread_ends(self, window: _Window) -> None:
        if window is self._open:
            self.close()

    def before_fork(self) -> None:
        """End the open window: a child would go on recording for ever in what it inherits."""
        if self._open is not None and self._open.own_thread():
            self.close()

    def trains(self, frame: FrameType) -> None:
        """Backward runs here: evidence of which functions hold the training loop."""
        if self._open is not None:
            self._open.sampler.trains(frame)

    def forget(self) -> None:
        """In a forked child, where no sampler thread runs."""
        self._open, self._closed = None, []
        self._tracker.log = None

    def stop(self) -> None:
        self._next = NEVER

    def _enough(self) -> bool:
        """Tell whether the launcher knows every phase well enough already, on all ranks."""
        if os.path.exists(self._recorder.beside("enough")):
            self.stop()
            return True
        return False

    def _open_window(self, first_step: int, boundaries: int) -> None:
        from torch.autograd import profiler

        if getattr(profiler, "_is_profiler_enabled", False):
            self.give_way()
            return
        window = _Window(self.count, first_step, boundaries)
        with self._torch_busy(window):
            window.begin()
            self._open = window
        self.count += 1
        if threading.current_thread() is not threading.main_thread():
            last = self.guard("windows", functools.partial(self._thread_ends, self._open))
            self._open.thread_end = other_threads.at_thread_end(last)
        self._tracker.log = self._open.log
        self._tracker.flags = TRACED

    @contextmanager
    def _torch_busy(self, window: _Window) -> Iterator[None]:
        """Call torch's profiler; leave none running where we or a signal's handler raise."""
        self.busy = True
        try:
            yield
        except BaseException:
            self._open = None
            self.stop()
            window.quit()
            raise
        finally:
            self.busy = False

    def _write(self, window: _Window) -> None:
        if not window.boundaries:
            return
        path = self._recorder.path("window", f"-{window.index}.win")
        header = window.header()
        header["rank"] = facts.rank_and_world()[0]
        try:
            window_file.write(path, header, window.tables())
        except OSError as error:
            self._recorder.fact("no_window", {"why": f"the window could not be written: {error}"})
            return
        steps = len(window.boundaries)
        self._recorder.fact(
            "window",
            {
                "index": window.index,
                "first_step": window.first_step,
                "steps": steps,
                "file": os.path.basename(path),
            },
        )


class _Window:
    """One window, from its beginning to its file."""

    def __init__(self, index: int, first_step: int, needed: int) -> None:
        self.index, self.first_step = index, first_step
        self.needed, self.passed = needed, 0  # boundaries until it is closed
        self.began = self.ended = 0
        self.events = 0
        self.log: list[tuple[int, int, int, int]] = []
        self.boundaries: list[tuple[int, int]] = []
        self._clock: list[tuple[int, int]] = []
        self._columns: dict[str, array[int]] = {}
        self._samples: dict[str, array[int]] = {}
        self._names: dict[str, int] = {}
        self._types: dict[str, int] = {}
        self._device = "cpu"
        self._profile: Any = None
        self._thread = threading.current_thread()
        self.sampler = StackSampler(self._thread)
        self.thread_end: threading.local | None = None

    def own_thread(self) -> bool:
        """Tell whether the caller runs on the thread that opened the window."""
        return (
            threading.get_ident() == self._thread.ident
        )  # an ending thread has no more than that

    def begin(self) -> None:
        import torch
        from torch.autograd import profiler

        cuda = torch.cuda.is_initialized()
        self._device = "cuda" if cuda else "cpu"
        self._profile = profiler.profile(use_kineto=True, use_device="cuda" if cuda else None)
        if cuda:
            torch.cuda.synchronize()  # kernels under way would have no beginning: seen as idle
        with other_threads.without_complaint():
            self._profile._prepare_trace()
        self._profile._start_trace()
        self._tick()
        self.sampler.start()
        self.began = time.perf_counter_ns()

    def abandon(self) -> None:
        """Leave it to the thread that opened it, which alone could end it."""
        self.sampler.stop()

    def quit(self) -> None:
        """Stop all of it, in whatever state it is."""
        import torch
        from torch.autograd import profiler

        self.sampler.stop()
        if torch.autograd._profiler_enabled():
            torch.autograd._disable_profiler()
        getattr(profiler, "_run_on_profiler_stop", lambda: None)()
        self._profile = None

    def end(self) -> None:
        import torch
        from torch.autograd import profiler

        self.ended = time.perf_counter_ns()
        self._samples = self.sampler.stop()
        self._tick()
        if self._device == "cuda":
            torch.cuda.synchronize()
        result = torch.autograd._disable_profiler()
        getattr(profiler, "_run_on_profiler_stop", lambda: None)()
        self._profile.enabled = False
        self._copy(result.events())

    def _tick(self) -> None:
        """Tie our clock to the events' by a marker between two readings."""
        from torch.autograd import profiler

        before = time.perf_counter_ns()
        with profiler.record_function("speedprof.clock"):
            pass
        self._clock.append((before, time.perf_counter_ns()))

    def _copy(self, events: Any) -> None:
        import torch

        columns = [array("q") for _ in window_file.EVENT_COLUMNS]
        names, types = self._names, self._types
        cpu = torch.autograd.DeviceType.CPU
        typed = hasattr(events[0], "activity_type") if len(events) else False
        marks = []
        for event in events:
            name, start = event.name(), event.start_ns()
            if name == "speedprof.clock":
                marks.append((start, start + event.duration_ns()))
                continue
            on_device = event.device_type() != cpu
            kind = event.activity_type() if typed else _guess_type(event, name, on_device)
            resource = event.device_resource_id()
            row = (
                names.setdefault(name, len(names)),
                types.setdefault(kind, len(types)),
                start,
                event.duration_ns(),
                -1 if on_device else resource,
                event.device_index() if on_device else -1,
                resource if on_device else -1,
                event.correlation_id(),
                event.linked_correlation_id(),
                event.nbytes(),
                int(event.is_async()),
            )
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        self.events = len(columns[0])
        self._columns = dict(zip(window_file.EVENT_COLUMNS, columns, strict=True))
        self._clock = [
            ((ours[0] + ours[1]) // 2, (theirs[0] + theirs[1]) // 2)
            for ours, theirs in zip(self._clock, sorted(marks), strict=False)
        ]

    def header(self) -> dict[str, object]:
        frames, stacks = self.sampler.tables()
        self.boundaries.sort()
        return {
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "device": self._device,
            "index": self.index,
            "first_step": self.first_step,
            "clock": self._clock,
            "thread": self._thread.native_id,
            "boundaries": [self.boundaries[0][0], *(end for _, end in self.boundaries)],
            "names": list(self._names),
            "types": list(self._types),
            "probes": list(window_file.PROBES),
            "frames": frames,
            "stacks": stacks,
            "training": self.sampler.training(),
        }

    def tables(self) -> window_file.Columns:
        log = list(zip(*self.log, strict=True)) or [()] * len(window_file.PROBE_COLUMNS)
        probes = {
            name: array("q", values)
            for name, values in zip(window_file.PROBE_COLUMNS, log, strict=True)
        }
        return {"event": self._columns, "probe": probes, "sample": self._samples}


def _guess_type(event: Any, name: str, on_device: bool) -> str:
    """Tell an event's type on versions of torch that do not say it."""
    if on_device:
        if name.startswith("Memcpy"):
            return window_file.COPY
        return window_file.MEMSET if name.startswith("Memset") else window_file.KERNEL
    if event.is_user_annotation():
        return window_file.ANNOTATION
    runtime = name.startswith(("cuda", "hip")) and "::" not in name
    return window_file.RUNTIME if runtime else window_file.CPU_OP
