"""One window: torch.profiler and the stack sampler switched on together, and what they saw."""

from __future__ import annotations

import os
import threading
import time
from array import array
from typing import Any

from speedprof.profiler import other_threads, window_file
from speedprof.profiler.stack_sampler import INTERVAL_S, StackSampler


class Window:
    """One window, from its beginning to its file."""

    def __init__(
        self, index: int, first_step: int, needed: int, *, look_s: float = INTERVAL_S
    ) -> None:
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
        self.sampler = StackSampler(self._thread, look_s)
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
