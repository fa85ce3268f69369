"""Start the user's command, watch it from outside, say how it ended.

It goes on whatever fails here. Nothing heavy is imported before the command runs; what the end
will need is imported meanwhile, at low priority.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from speedprof import __version__
from speedprof.profiler import run_folder, script_file
from speedprof.profiler.child import Child, end_as
from speedprof.profiler.interpreter import Target

INJECTED = Path(__file__).parent / "inject"
REDUCE_EVERY_S = 0.5
ROOFS_S = 1.0  # a cache on a network may hang; the run does not wait for it
LOWEST_PRIORITY = 19


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run and how to measure it."""

    target: Target
    parent: Path  # of run folders
    name: str | None = None
    steps: int | None = None  # measure so many after warm-up, then let go
    stop_after: int | None = None  # measure so many after warm-up, then end the script
    warmup: int = 10
    windows: bool = True
    remedies: tuple[dict[str, object], ...] = ()  # to be applied in the training process
    applied_by: str = ""  # the module there that knows them
    proved: Mapping[str, str] = field(default_factory=dict)  # the machine and torch of the plan
    trial: dict[str, object] | None = None  # what `trials.begin` is to change in the process
    live: bool = True  # the live line, where the terminal allows
    preload: tuple[str, ...] = ()  # modules that the caller needs once the command has ended


@dataclass(kw_only=True)
class Ended:
    """A command that has ended, and what is left of it."""

    command: tuple[str, ...]
    folder: Path | None  # None: not recorded
    exit_status: int  # negative: the signal
    wall_s: float
    notes: list[str] = field(
        default_factory=list
    )  # what went wrong on our side, one sentence each

    def note(self, sentence: str) -> None:
        """Add a sentence that was not said yet."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def leave(self) -> NoReturn:
        """End this process as the command ended."""
        end_as(self.exit_status)


def run(order: Order) -> Ended:
    """Run the command to its end.

    Raises SpeedprofError where it cannot be started at all. On return, Ctrl-C ends this process
    at once, as the command ended.
    """
    notes: list[str] = []
    started_at = time.time()
    folder = _make_folder(order, started_at, notes)
    child = Child(order.target.command, environment(order, folder))
    begin = time.monotonic()
    watch = _Watch(order, folder, child.pid, started_at)
    status = child.wait(on_signal=watch.hear)
    wall_s = time.monotonic() - begin
    child.end_early_by_signal(status)
    stopped = watch.end(notes)
    ended = Ended(
        command=order.target.command,
        folder=folder,
        exit_status=status,
        wall_s=wall_s,
        notes=notes,
    )
    _write_end(ended, stopped=stopped)
    return ended


def _make_folder(order: Order, started_at: float, notes: list[str]) -> Path | None:
    """Make the run folder, or note why this run goes unrecorded."""
    try:
        folder = run_folder.create(order.parent, order.name or order.target.name, now=started_at)
        run_folder.write_start(
            folder,
            [readable(part) for part in order.target.command],
            name=order.name or order.target.name,
            started_at=started_at,
            options=options(order),
            version=__version__,
            script=script_file.fact(order.target.command, run_folder.working_directory()),
        )
    except OSError as error:
        notes.append(
            f"the run was not recorded: cannot write to {order.parent} ({error.strerror}); "
            "name another folder with --out DIR"
        )
        return None
    return folder


def options(order: Order) -> dict[str, object]:
    """Return what the injection, and later the record's reader, is told."""
    told: dict[str, object] = {
        "steps": order.steps,
        "stop_after": order.stop_after,
        "warmup": order.warmup,
        "windows": order.windows,
    }
    if order.remedies:
        told |= {"remedies": list(order.remedies), "applied_by": order.applied_by}
        if order.proved:
            told["proved"] = dict(order.proved)
    return told if order.trial is None else {**told, "trial": order.trial}


def environment(order: Order, folder: Path | None) -> dict[str, str]:
    """Return our environment, with the injection where there is a folder to record to."""
    environment = dict(os.environ)
    if folder is None:
        return environment
    users = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{INJECTED}{os.pathsep}{users}" if users else str(INJECTED)
    environment["SPEEDPROF_RUN"] = str(folder)
    environment["SPEEDPROF_OPTIONS"] = json.dumps(options(order))
    environment.setdefault(
        "KINETO_LOG_LEVEL", "99"
    )  # its banner would be ours on the user's stderr
    return environment


def readable(text: str) -> str:
    """Return text that any JSON reader takes; bytes that are no UTF-8 are spelled out."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _write_end(ended: Ended, *, stopped: bool) -> None:
    if ended.folder is None:
        return
    try:
        run_folder.write(
            ended.folder / run_folder.END,
            {
                "exit_status": ended.exit_status,
                "wall_s": round(ended.wall_s, 3),
                "stopped_by_us": stopped,
                "notes": ended.notes,
            },
        )
    except OSError as error:
        ended.note(run_folder.cannot_write(ended.folder, error))
        ended.folder = ended.folder if ended.folder.is_dir() else None


class _Watch:
    """The threads that work while the command runs. Without a folder there is nothing to do."""

    def __init__(self, order: Order, folder: Path | None, pid: int, started_at: float) -> None:
        self._folder = folder
        self._stopping = threading.Event()
        threading.Thread(target=_import, args=(order.preload,), daemon=True).start()
        if folder is None:
            return
        from speedprof.profiler.live import Live, can_draw
        from speedprof.profiler.progress import Followers
        from speedprof.profiler.sampler import Sampler

        self._followers = Followers(folder)
        self._sampler = Sampler(folder, pid, started_at=started_at)
        self._sampler.start()
        self._reducer = threading.Thread(target=self._reduce, args=(folder,), daemon=True)
        self._reducer.start()
        self._roofs = threading.Thread(target=_hand_over_roofs, args=(folder,), daemon=True)
        self._roofs.start()
        self._live = Live(self._followers) if order.live and can_draw() else None
        if self._live is not None:
            self._live.start()

    def hear(self, number: int) -> None:
        """Give the terminal back before the job stops."""
        if self._folder is None or self._live is None:
            return
        if number == signal.SIGTSTP:
            self._live.pause()
        elif number == signal.SIGCONT:
            self._live.resume()

    def end(self, notes: list[str]) -> bool:
        """Stop all of it; return whether the run was ended by `--stop-after`."""
        self._stopping.set()
        if self._folder is None:
            return False
        if self._live is not None:
            self._live.stop()
        self._sampler.stop()
        if self._sampler.failed is not None:
            notes.append(run_folder.cannot_write(self._folder, self._sampler.failed))
        self._reducer.join()
        self._roofs.join(ROOFS_S)
        self._followers.look()
        return self._followers.stopped()

    def _reduce(self, folder: Path) -> None:
        """Reduce windows as they appear, so that they do not fill the disk."""
        from speedprof.profiler.enough import tell_if_enough
        from speedprof.profiler.reduction import reduce_folder

        _be_nice()
        enough = False
        try:
            while not self._stopping.wait(REDUCE_EVERY_S):
                if reduce_folder(folder) and not enough:
                    enough = tell_if_enough(folder)
        except OSError:
            return  # disk full or folder gone: the report reduces what is left


def _hand_over_roofs(folder: Path) -> None:
    """Give the run what is known of this machine; without it, the report says one sentence."""
    from speedprof.profiler.fence import Fence, unreported
    from speedprof.profiler.roofs import cache

    _be_nice()
    Fence(unreported).guard("roofs", cache.hand_to)(folder)


def _import(modules: Sequence[str]) -> None:
    _be_nice()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy here adds up columns, the cores are taken
    with contextlib.suppress(ImportError):  # whoever needs it will say so
        for module in modules:
            importlib.import_module(module)


def _be_nice() -> None:
    """Give this thread alone the lowest priority: the training comes first."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
