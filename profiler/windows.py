"""A few consecutive steps under torch.profiler, copied out as columns; nothing between windows."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from speedprof.profiler import facts, other_threads, window_file
from speedprof.profiler.record import DISTURBED, TRACED
from speedprof.profiler.recorder import Recorder
from speedprof.profiler.stack_sampler import INTERVAL_S, interval_s
from speedprof.profiler.steps import FLAGS, WALL, Tracker
from speedprof.profiler.window import Window

STEPS = 4  # of a window, at least
# Steps of a millisecond are over before the sampler has looked once: a window lasts so long, if
# that takes no more than MOST_STEPS.
LEAST_NS = 20_000_000
MOST_STEPS = 20
RECENT = 5  # steps whose median says how long a step is
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
        self._many = False  # a window held very many events
        self._recent: deque[int] = deque(maxlen=RECENT)  # ns of untraced steps
        self.count = 0
        self._open: Window | None = None
        self._closed: list[Window] = []  # whose steps are not all finished yet
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
        self._open_window(finished + (1 if cut else 0), self._needed() + (1 if cut else 0))
        return time.perf_counter_ns()

    def emitted(self, row: list[int]) -> None:
        """Take a finished step's row; write the windows whose last step this was."""
        if not row[FLAGS]:
            self._recent.append(row[WALL])
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
            self._many = True
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
            self._recorder.fact("flags", {"flags": {"profilers": "torch.profiler"}})

    def _thread_ends(self, window: Window) -> None:
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

    def _needed(self) -> int:
        """Return the steps of the next window."""
        if self._many:
            return 1
        usual = self._usual_ns()
        return STEPS if usual is None else max(STEPS, min(MOST_STEPS, LEAST_NS // max(usual, 1)))

    def _usual_ns(self) -> int | None:
        """Return how long a step is, None where none was untraced."""
        return sorted(self._recent)[len(self._recent) // 2] if self._recent else None

    def _open_window(self, first_step: int, boundaries: int) -> None:
        from torch.autograd import profiler

        if getattr(profiler, "_is_profiler_enabled", False):
            self.give_way()
            return
        usual = self._usual_ns()
        look_s = INTERVAL_S if usual is None else interval_s(usual)
        window = Window(self.count, first_step, boundaries, look_s=look_s)
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
    def _torch_busy(self, window: Window) -> Iterator[None]:
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

    def _write(self, window: Window) -> None:
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
