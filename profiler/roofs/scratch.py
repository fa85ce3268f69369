"""An own folder on the storage that is measured, and gone afterwards whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".speedprof-roofs-"


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[tuple[str | None, str | None]]:
    """Yield a new folder, or why there is none; remove it at the end, also on Ctrl-C."""
    try:
        made = tempfile.mkdtemp(prefix=PREFIX, dir=parent.absolute())
    except OSError as error:
        yield None, f"cannot write to {parent} ({error.strerror}); name another with --storage DIR"
        return
    try:
        yield made, None
    finally:
        with _undisturbed():
            shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C wait."""
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
