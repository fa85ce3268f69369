"""Trace a thread that is not the main one: what torch's profiler needs there, and what it says."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

COMPLAINT = b"ERROR: External init callback must run in same thread"  # kineto, libkineto_api.cpp
STDERR = 2


@contextlib.contextmanager
def without_complaint() -> Iterator[None]:
    """Keep a line of Kineto's off the user's stderr; it would be ours to answer for.

    It is written, past Kineto's own log level, when a process's first profile begins in a thread
    other than the one that imported torch, and is harmless. All else that is written to stderr
    in that moment follows at once.
    """
    if threading.current_thread() is threading.main_thread() or not hasattr(os, "memfd_create"):
        yield
        return
    try:
        kept = os.dup(STDERR)
    except OSError:
        yield  # the script has no stderr
        return
    spool = os.memfd_create("stderr")
    os.dup2(spool, STDERR)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        said = os.pread(spool, os.fstat(spool).st_size, 0)
        os.close(spool)
        os.close(kept)
        lines = said.splitlines(keepends=True)
        rest = b"".join(line for line in lines if not line.startswith(COMPLAINT))
        if rest:
            os.write(STDERR, rest)


def at_thread_end(action: Callable[[], object]) -> threading.local:
    """Call back as this thread ends, in this thread, or as what is returned goes.

    A thread's profile can be ended by that thread alone.
    """
    place = threading.local()
    place.last_words = _LastWords(action)
    return place


class _LastWords:
    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def __del__(self) -> None:
        self._action()
