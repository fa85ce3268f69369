"""Keep what torch's profiler says of its own threads off the user's stderr.

Kineto writes a line there, past its own log level, when a process's first profile begins in a
thread other than the one that imported torch. It is harmless, and it would be ours to answer for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

COMPLAINT = b"ERROR: External init callback must run in same thread"  # kineto, libkineto_api.cpp
STDERR = 2


@contextlib.contextmanager
def without_complaint() -> Iterator[None]:
    """Hold stderr back for a moment where the complaint may come; all the rest follows at once."""
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
