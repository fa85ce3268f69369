"""A process does not end before gloo's threads have let go of their work."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from speedprof.profiler import gloo_threads
from speedprof.tests.launching import speedprof

SCRIPT = Path(__file__).parent / "unaware" / "gloo_ends_late.py"
PR_SET_NAME = 15  # linux/prctl.h

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its threads")


class Worker(threading.Thread):
    """A thread that is called as gloo's are, and works without the interpreter's lock."""

    def __init__(self, name: str, rounds: float) -> None:
        super().__init__()
        self._called, self._rounds = name, rounds
        self.ready, self._over, self.at_rest = (threading.Event() for _ in range(3))

    def run(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, self._called.encode())
        self.ready.set()
        done = 0
        while done < self._rounds and not self._over.is_set():
            hashlib.pbkdf2_hmac("sha256", b"", b"", 50_000)  # tens of milliseconds
            done += 1
        self.at_rest.set()
        self._over.wait()

    def stop(self) -> None:
        self._over.set()
        self.join()


@contextlib.contextmanager
def working(name: str, rounds: float) -> Iterator[Worker]:
    worker = Worker(name, rounds)
    worker.start()
    worker.ready.wait()
    try:
        yield worker
    finally:
        worker.stop()


@pytest.mark.parametrize("rounds", [0, 1, 10])
def test_threads_of_gloo_are_waited_for(rounds: int) -> None:
    with working(gloo_threads.NAME, rounds) as one, working(gloo_threads.NAME, 1) as other:
        assert gloo_threads.let_rest(60)
        assert one.at_rest.is_set()
        assert other.at_rest.is_set()


def test_others_are_not() -> None:
    with working("somebody", math.inf) as worker:
        assert gloo_threads.let_rest()
        assert not worker.at_rest.is_set()


def test_one_that_never_rests_is_not_waited_for_for_ever() -> None:
    with working(gloo_threads.NAME, math.inf):
        assert not gloo_threads.let_rest(0.1)


def test_where_there_is_no_linux_to_ask_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gloo_threads, "TASKS", str(tmp_path / "none"))
    assert gloo_threads.let_rest()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="no idle scheduling")
@pytest.mark.parametrize("run", range(3))
def test_a_run_does_not_abort_in_the_backend_s_last_moment(run: int, tmp_path: Path) -> None:
    done = speedprof("run", str(SCRIPT), cwd=tmp_path)  # aborted in 3 of 10 runs before
    assert (done.returncode, done.stdout) == (0, b"trained\n"), done.stderr
