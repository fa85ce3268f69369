"""Calls that make the host wait for a GPU, and copies to it.

Installed only where there may be one.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from speedprof.profiler.device_clock import device_possible
from speedprof.profiler.steps import PROBE, Tracker

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]
now = time.perf_counter_ns
# Documented to wait for the device when the tensor lives there (torch.cuda.set_sync_debug_mode
# warns of them)
READS = ("item", "tolist", "cpu", "__bool__", "__int__", "__float__")
COPIES = ("to", "cuda")
MOST_LINES = 200  # source lines remembered


def install(session: Session, waiting: Waiting) -> None:
    del waiting
    if not device_possible():
        return
    import torch

    note_read = session.fence.guard("synchronise", lambda *seen: _note_read(session, *seen))
    note_copy = session.fence.guard("copy", lambda *seen: _note_copy(session, *seen))
    for name in READS:
        _watch(session, torch.Tensor, name, note_read, lambda tensor: tensor.is_cuda)
    for name in COPIES:
        _watch(session, torch.Tensor, name, note_copy, lambda tensor: not tensor.is_cuda)


def _watch(
    session: Session,
    owner: Any,
    name: str,
    note: Callable[..., Any],
    matters: Callable[[Any], bool],
) -> None:
    import torch

    compiling = torch.compiler.is_compiling
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(tensor: Any, *arguments: Any, **keywords: Any) -> Any:
        if compiling() or get_ident() != session.thread or not matters(tensor):
            return original(tensor, *arguments, **keywords)
        begin = now()
        result = original(tensor, *arguments, **keywords)
        note(name, begin, result, sys._getframe(1))
        return result

    session.patches.replace(owner, name, call, reason="see where the host waits for the device")


def _note_read(session: Session, name: str, begin: int, _result: Any, frame: FrameType) -> None:
    end = now()
    session.journal.write(Tracker.synchronised, begin, end)
    lines = session.seen.sync_calls
    key = (f"Tensor.{name}", frame.f_code.co_filename, frame.f_lineno or 0)
    if key in lines or len(lines) < MOST_LINES:
        entry = lines.setdefault(key, [0, 0])
        entry[0] += 1
        entry[1] += end - begin


def _note_copy(session: Session, _name: str, begin: int, result: Any, _frame: FrameType) -> None:
    if getattr(result, "is_cuda", False):
        session.journal.write(Tracker.spent, begin, now(), PROBE["copy"])
