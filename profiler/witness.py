"""Tells a signal sent to us alone from one that the whole process group got.

What the group got (Ctrl-C, a shell's ``kill %1``, a batch system's ``scancel``), the script has
already; passing it on would deliver it twice, and a second SIGTERM kills a script that is busy
ending itself by the first. The kernel does not say which it was, so a process of ours sits in the
group with every signal blocked: what is pending there, the group got.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

DELIVERED_S = 0.005  # a signal to a group reaches all of it in one system call; this is plenty


class Witness:
    """A process that only sits in our process group; make it before there is a thread."""

    def __init__(self) -> None:
        """Fork it; signals that are to be told apart are blocked already."""
        waiting, self._asking = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._asking)
            _sit(waiting)
        os.close(waiting)

    def saw(self, number: int) -> bool:
        """Return whether the group got this signal, and forget it."""
        time.sleep(DELIVERED_S)
        try:
            status = Path(f"/proc/{self._pid}/status").read_bytes()
        except OSError:
            return False
        pending = next(line for line in status.splitlines() if line.startswith(b"ShdPnd:"))
        seen = bool(int(pending.split()[1], 16) >> (number - 1) & 1)
        if seen:
            signal.sigtimedwait({number}, 0)  # one more meanwhile: signals that wait are merged
            os.write(self._asking, bytes([number]))
        return seen

    def dismiss(self) -> None:
        """End it."""
        os.close(self._asking)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _sit(waiting: int) -> None:
    """Forget a signal whenever asked to; end when the launcher has closed its end of the pipe."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        while asked := os.read(waiting, 1):
            signal.sigtimedwait(asked, 0)
    finally:
        os._exit(0)
