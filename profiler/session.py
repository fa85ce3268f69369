"""One training process under measurement.

From the import of torch to its end, or until it is let go.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from speedprof.profiler import facts, gloo_threads, probes
from speedprof.profiler.device_clock import DeviceClock
from speedprof.profiler.fence import Fence
from speedprof.profiler.journal import Journal
from speedprof.profiler.patches import Patches
from speedprof.profiler.record import COLUMN, NOT_MEASURED
from speedprof.profiler.recorder import Recorder
from speedprof.profiler.steps import Tracker
from speedprof.profiler.windows import NEVER, Windows
from speedprof.profiler.worker_telemetry import WorkerTelemetry

DEVICE_WALL, DEVICE_WAIT = COLUMN["device_wall"], COLUMN["device_input_wait"]
DRAWING = (
    "rich.progress",
    "rich.live",
    "alive_progress",
    "progressbar",
    "enlighten",
    "curses",
)
FACTS_EVERY_NS = 5_000_000_000  # how old cumulative facts may be in the record; doubles each time

_current: Session | None = None


@dataclass(frozen=True)
class Options:
    """What `speedprof run` was told; passed in the environment."""

    steps: int | None = None  # measure so many after warm-up, then let go
    stop_after: int | None = None  # measure so many after warm-up, then end the script
    warmup: int = 10
    windows: bool = True
    remedies: tuple[dict[str, Any], ...] = ()  # to be applied, as a plan names them
    applied_by: str = ""  # the module that knows them
    proved: Mapping[str, str] = field(default_factory=dict)  # the machine and torch of the plan


def current() -> Session | None:
    """Return this process's session, None where nothing is measured."""
    return _current


class Session:
    """Everything of ours that lives in the training process."""

    def __init__(self, folder: str, options: Options) -> None:
        self.options = options
        self.folder = folder
        self.patches = Patches()
        self.fence = Fence(self.note)
        # the thread that trains; followed if it turns out to be another
        self.thread: int | None = threading.main_thread().ident
        self._changes: list[str] = []
        self.at_end: list[Callable[[], object]] = []
        self.plans: list[Any] = []  # in force, each a process of mitigations.applied
        self.waiting: dict[str, Callable[[ModuleType], None]] = {}  # what waits for an import
        self.loader_watch: Any = None  # of the loader probes, however often they are installed
        self._replay = self.fence.guard("steps", self._replay_all)
        self.journal = Journal(self.catch_up)
        self.step_begins = self.fence.guard("step", self._explicit_begins)
        self.step_waited = self.fence.guard("step", self._explicit_waited)
        self.step_ends = self.fence.guard("step", self._explicit_ended)
        self._start()

    def _start(self) -> None:
        self.recorder = Recorder(self.folder)
        self.tracker = Tracker(self._emitted)
        boundary = self.fence.guard("boundary", self._at_boundary)
        self.tracker.at_boundary = lambda now, cut: boundary(now, cut) or now
        self.windows = Windows(self.recorder, self.tracker, self.options.warmup)
        self.windows.guard = self.fence.guard
        if not self.options.windows:
            self.windows.stop()
        self.clock = DeviceClock()
        self.telemetry = WorkerTelemetry(self.folder)
        self.seen = facts.Seen(self.recorder, self.fence.guard)
        self.journal.clear()
        self.loader_asked = -1  # number of the loader asked last
        self.stopping = self.leaving = False
        self.over = False  # every patch was undone
        self._told, self._telling = 0, FACTS_EVERY_NS

    def begin(self, waiting: dict[str, Callable[[ModuleType], None]]) -> None:
        """Install the probes and see to the end of the process."""
        global _current  # noqa: PLW0603
        _current = self
        if self.options.remedies:
            self.fence.guard("remedies", self._apply)(waiting)
        self.waiting = waiting
        self._install()
        atexit.register(self.fence.guard("gloo", gloo_threads.let_rest))  # after `end`
        atexit.register(self.fence.guard("end", self.end))
        os.register_at_fork(
            before=self.fence.guard("fork", lambda: self.windows.before_fork()),
            after_in_child=self.fence.guard("fork", self._forked),
        )

    def _install(self) -> None:
        probes.install(self, self.waiting)
        self._changes = self.patches.texts()

    def beneath(self, action: Callable[[], object]) -> None:
        """Do something below the probes: they go, and come back to see what comes of it.

        Where somebody has patched over a probe, they stay, and it is done above them.
        """
        if not self.patches.are_on_top():
            action()
            return
        for undo in (*self.at_end, self.patches.undo):
            undo()
        self.at_end.clear()
        try:
            action()
        finally:
            self._install()
            for name in [name for name in self.waiting if _is_imported(name)]:
                self.waiting.pop(name)(sys.modules[name])

    def _apply(self, waiting: dict[str, Callable[[ModuleType], None]]) -> None:
        """Put the plan's remedies in force, below the probes: these see what comes of them.

        They stay when the probes go, and are taken back when the process ends.
        """
        module = importlib.import_module(self.options.applied_by)
        process = module.Process(self.fence, waiting, self.options.proved)
        self.plans.append(process)
        process.apply(self.options.remedies)
        atexit.register(self.fence.guard("remedies", process.undo))

    # -- moments

    def catch_up(self) -> None:
        """Tell the tracker what the probes have written down."""
        self._replay(self.journal.take())

    def _replay_all(self, moments: list[tuple[Any, ...]]) -> None:
        tracker = self.tracker
        for act, *times in moments:
            act(tracker, *times)
        until = min(self.windows.next_step, self._last_step) - tracker.steps
        self.journal.let_wait(until, time.perf_counter_ns())

    @property
    def _last_step(self) -> int:
        """Return the number of steps after which `--steps` or `--stop-after` is due."""
        asked = [n for n in (self.options.steps, self.options.stop_after) if n is not None]
        return self.options.warmup + min(asked) if asked else NEVER

    def waited_ns(self) -> int:
        """Return what the step in progress has waited for loaders so far."""
        self.catch_up()
        return self.tracker.row[COLUMN["input_wait"]]

    def note(self, text: str) -> None:
        self.open_record()
        self.recorder.fact("note", {"text": text})

    def open_record(self) -> None:
        if not self.recorder.opened:
            self.recorder.open(facts.process())
            for text in self._changes:
                self.recorder.fact("change", {"text": text})
            if multiprocessing.parent_process() is not None:
                from multiprocessing.util import Finalize

                Finalize(
                    None, self.fence.guard("end", self.end), exitpriority=0
                )  # no atexit in such a child

    def _at_boundary(self, now: int, cut: bool) -> int:
        done = self.tracker.steps + (0 if cut else 1) - self.options.warmup
        if self.options.steps is not None and done >= self.options.steps:
            self.leaving = True
            self.windows.stop()
        boundary = self.windows.at_boundary(now, cut)
        if self.options.stop_after is not None and done >= self.options.stop_after:
            self.stopping = True
        return boundary

    def leave_if_due(self) -> None:
        """Let go where `--steps` says so.

        Never inside an optimizer's hooks: torch iterates over them meanwhile.
        """
        if self.leaving:
            self.let_go(f"{self.options.steps} steps were measured")

    def _explicit_begins(self, now: int) -> None:
        self.catch_up()
        self.tracker.explicit_begins(now)

    def _explicit_waited(self, begin: int, end: int, known: int) -> None:
        self.catch_up()
        self.tracker.explicit_waited(begin, end, known)

    def _explicit_ended(self, now: int) -> None:
        self.catch_up()
        self.tracker.explicit_ends(now)
        self.leave_if_due()

    def stop_if_due(self) -> None:
        """End the script where `--stop-after` says so.

        Outside any fence, on the training thread.
        """
        if self.stopping and not self.over:
            self.end(stopped=True)
            raise SystemExit(0)

    def _emitted(self, row: list[int]) -> None:
        if self.over:
            return
        self.open_record()
        row[DEVICE_WALL] = row[DEVICE_WAIT] = NOT_MEASURED
        for finished in self.clock.attach(row):
            self._record(finished)

    def _record(self, row: list[int]) -> None:
        self.windows.emitted(row)
        if self.recorder.row(row):
            now = time.perf_counter_ns()
            if now - self._told > self._telling:
                self._told, self._telling = now, self._telling * 2
                self._tell()

    def _tell(self) -> None:
        """Write the facts that grow."""
        self.seen.tell()
        drawing = [name for name in DRAWING if name in sys.modules]
        bars = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
        if getattr(bars, "_instances", None):  # torch imports tqdm itself, where it is installed
            drawing.append("tqdm")
        if drawing:
            self.recorder.fact("draws", {"modules": drawing})

    # -- the end

    def let_go(self, why: str) -> None:
        """Undo every patch; training goes on as if speedprof had never been there."""
        if self.over:
            return
        self.recorder.fact("detached", {"step": self.tracker.steps, "why": why})
        self.end()

    def end(self, *, stopped: bool = False) -> None:
        """Undo every patch, finish the record."""
        if self.over:
            return
        self.thread = (
            None  # probes that somebody wrapped meanwhile, and so stay, do nothing from now on
        )
        try:
            self._finish_measuring()
        finally:
            remarks = self._undo()
        if not self.recorder.opened:
            return
        for remark in remarks:
            self.recorder.fact("note", {"text": remark})
        self._tell()
        for plan in self.plans:
            for kind, content in plan.told():
                self.recorder.fact(kind, content)
        self.recorder.fact("memory", facts.memory())
        self.recorder.fact(
            "end",
            {
                "steps": self.tracker.steps,
                "step_definition": self.tracker.definition,
                "stopped": stopped,
                "at_perf_ns": time.perf_counter_ns(),
            },
        )
        self.recorder.close()

    def _finish_measuring(self) -> None:
        self.telemetry.due = NEVER
        self.catch_up()
        self.windows.close()
        self.tracker.finish()
        for row in self.clock.drain():
            self._record(row)
        self.windows.finish()
        self.telemetry.flush()

    def _undo(self) -> list[str]:
        self.over = True
        for undo in self.at_end:
            undo()
        return [one for one in self.patches.undo() if not self._is_under_a_plan(one)]

    def _is_under_a_plan(self, remark: str) -> bool:
        """Tell whether what lies on a probe is a plan that the script put in force later."""
        ours = {text.partition(": ")[0] for plan in self.plans for text in plan.patches.texts()}
        return remark.partition(" was changed")[0] in ours

    def _forked(self) -> None:
        """Begin anew in a forked child: it may be a loader's worker, or train itself."""
        if self.over:
            return
        self.recorder.forget()
        self.windows.forget()
        self.thread = threading.main_thread().ident
        self._start()


def _is_imported(name: str) -> bool:
    """Tell whether a module was imported wholly."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and not getattr(spec, "_initializing", False)
