"""What the host does beside training.

Checkpoints, the garbage collector, collectives called from Python, profilers.
"""

from __future__ import annotations

import functools
import gc
import itertools
import operator
import time
from collections import deque
from collections.abc import Callable, Iterator
from threading import get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any

from speedprof.profiler.steps import PROBE, Tracker

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]
now = time.perf_counter_ns
GARBAGE = PROBE["garbage"]
COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "monitored_barrier",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "send",
)

MOST_COLLECTIONS = 1000  # that may wait to be told
NOTES = 4  # of each: two as it begins, two as it ends


def install(session: Session, waiting: Waiting) -> None:
    import torch

    time_calls(session, torch, ("save",), "checkpoint", "time checkpoints")
    for module, names in (
        ("safetensors.torch", ("save_file", "save_model")),
        ("torch.distributed.checkpoint", ("save",)),
    ):
        waiting[module] = session.fence.guard(
            "checkpoint",
            lambda found, names=names: time_calls(
                session, found, names, "checkpoint", "time checkpoints"
            ),
        )
    if torch.distributed.is_available():
        time_calls(
            session,
            torch.distributed,
            COLLECTIVES,
            "collective",
            "time collectives called from Python",
        )
    _watch_garbage(session)
    _make_way_for_profilers(session)


def time_calls(
    session: Session, owner: Any, names: tuple[str, ...], probe: str, reason: str
) -> None:
    """Add the time that the training thread spends in each named function to a probe's column."""
    import torch

    compiling = torch.compiler.is_compiling
    number = PROBE[probe]
    write = session.journal.write
    inside = [False]  # all_gather_object calls all_gather: the outermost counts

    def timed(original: Any) -> Any:
        @functools.wraps(original)
        def call(*arguments: Any, **keywords: Any) -> Any:
            if compiling() or inside[0] or get_ident() != session.thread:
                return original(*arguments, **keywords)
            inside[0], begin = True, now()
            try:
                return original(*arguments, **keywords)
            finally:
                inside[0] = False
                write(Tracker.spent, begin, now(), number)

        return call

    for name in names:
        if hasattr(owner, name):
            session.patches.replace(owner, name, timed(getattr(owner, name)), reason=reason)


class _Collections:
    """Notes when the garbage collector begins and ends, without a line of Python run inside it.

    Python runs a signal's handler at the next line of Python (or where C code asks for it), and
    what is raised inside a callback of the collector is lost: a Ctrl-C during a collection would
    be. So the callback is made of C functions that ask nobody: `max` calls its key for each of
    the collector's two arguments, which takes the next item of an iterator, which notes the time.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=NOTES * MOST_COLLECTIONS)
        times = zip(iter(now, None), iter(get_ident, None), strict=False)
        noting = map(operator.is_, map(self._seen.append, times), itertools.repeat(None))
        self._callback = functools.partial(max, key=functools.partial(next, noting))
        gc.callbacks.append(self._callback)

    def __len__(self) -> int:
        return len(self._seen) // NOTES

    def take(self, thread: int | None) -> Iterator[tuple[int, int]]:
        """Yield beginnings and ends of collections on one thread since the last time."""
        while self:
            (begin, where), _, _, (end, _) = (self._seen.popleft() for _ in range(NOTES))
            if where == thread:
                yield begin, end

    def remove(self) -> None:
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)


def _watch_garbage(session: Session) -> None:
    collections = _Collections()

    def tell() -> None:
        for begin, end in collections.take(session.thread):
            session.journal.moments.append((Tracker.spent, begin, end, GARBAGE))

    session.journal.also(collections, tell)
    session.patches.hook(collections, "gc.callbacks", reason="time the garbage collector")


def _make_way_for_profilers(session: Session) -> None:
    """Close our window before the script starts a profiler of its own.

    Torch allows one at a time.
    """
    from torch.autograd import profiler

    give_way = session.fence.guard("windows", lambda: session.windows.give_way())

    def after_us(original: Any) -> Any:
        @functools.wraps(original)
        def start(*arguments: Any, **keywords: Any) -> Any:
            give_way()
            return original(*arguments, **keywords)

        return start

    for name in ("_prepare_profiler", "_enable_profiler"):
        if hasattr(profiler, name):
            session.patches.replace(
                profiler,
                name,
                after_us(getattr(profiler, name)),
                reason="make way for the script's own profiler",
            )
