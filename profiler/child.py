"""The user's command as a child that cannot tell, and a launcher that ends as the child did.

The child has our stdio, directory, arguments and process group. Signals that only we get (``kill
PID``, a batch system's warning) are passed on; what the whole group gets, the child has already.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.witness import Witness

# si_code (SI_KERNEL in siginfo.h) of what the kernel means for us alone, such as a CPU limit
SENT_BY_KERNEL = 0x80
PR_SET_PDEATHSIG = 1
# not passed on: about a fault, a pipe or a terminal of ours, or impossible to wait for
OURS_ALONE = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGPIPE, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGCONT,
}  # fmt: skip
ENDERS = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}
AWAITED = signal.valid_signals() - OURS_ALONE


class Child:
    """One running command."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it; raises SpeedprofError where the system refuses.

        From here on signals wait for `wait`.
        """
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
        self._witness = Witness()
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                close_fds=False,
                preexec_fn=birth(os.getpid(), self._before),  # noqa: PLW1509 - no thread yet
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._witness.dismiss()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise SpeedprofError(
                f"cannot start {command[0]}: {why}; check that it runs by itself"
            ) from error
        self.pid = self._process.pid

    def wait(self, *, on_signal: Callable[[int], None]) -> int:
        """Pass signals on until the child ends; return its exit status, negative for a signal.

        `on_signal` hears that the job is stopped (SIGTSTP) and that it goes on (SIGCONT).
        """
        while True:
            status = self._look(on_signal)
            if status is not None:
                self._process.returncode = status
                self._witness.dismiss()
                return status
            received = signal.sigwaitinfo(AWAITED)
            if received.si_signo != signal.SIGCHLD:
                self._pass_on(received)

    def end_early_by_signal(self, status: int) -> None:
        """Once the child has ended: let Ctrl-C and its like end us at once, as the child did.

        Other signals were meant for the child and stay blocked; so do those that came before now.
        """
        while signal.sigtimedwait(AWAITED, 0) is not None:
            continue
        enders = {number for number in ENDERS if signal.getsignal(number) is not signal.SIG_IGN}
        for number in enders:
            signal.signal(number, lambda *_: end_as(status))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, enders | {signal.SIGTSTP})

    def _look(self, on_signal: Callable[[int], None]) -> int | None:
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0 or os.WIFCONTINUED(status):
                return None
            if os.WIFSTOPPED(status):
                on_signal(signal.SIGTSTP)
                self._stop_too()
                on_signal(signal.SIGCONT)
                continue
            return os.waitstatus_to_exitcode(status)

    def _stop_too(self) -> None:
        """Stop, for the shell that waits for us to see, and make the child go on when we do."""
        self._witness.saw(signal.SIGTSTP)  # what the group got until now, is forgotten
        os.kill(os.getpid(), signal.SIGSTOP)
        by_group = self._witness.saw(signal.SIGCONT)
        stopped_again = self._witness.saw(signal.SIGTSTP)
        if not by_group and not stopped_again:
            os.kill(self.pid, signal.SIGCONT)

    def _pass_on(self, received: signal.struct_siginfo) -> None:
        number = received.si_signo
        by_group = self._witness.saw(number)
        if not by_group and received.si_code != SENT_BY_KERNEL:
            os.kill(self.pid, number)


def birth(launcher: int, mask: set[int | signal.Signals]) -> Callable[[], None]:
    """Return what the child does before it becomes the command."""
    import ctypes

    prctl = ctypes.CDLL(None).prctl

    def born() -> None:
        # kill -9 on us is kill -9 on the command, too
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != launcher:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return born


def end_as(status: int) -> NoReturn:
    """End this process with a child's exit status, or by the signal that ended the child."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads any more
            stream.flush()
    if status < 0:
        _end_by(signal.Signals(-status))
    os._exit(status & 0xFF)


def _end_by(number: signal.Signals) -> None:
    import resource

    # the child has left its core, ours is of no use
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the signal's default is to do nothing
