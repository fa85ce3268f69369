"""Signals reach the script once, as they would without us, and the end is told as the script's."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from speedprof.tests.launching import (
    COMMAND,
    alive,
    environment,
    said,
    script,
    started,
    wait_until,
)

COUNTING = """
import os, signal, sys, time
def seen(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM: sys.exit(5)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
               signal.SIGALRM, signal.SIGQUIT):
    signal.signal(number, seen)
print("ready", flush=True)
while True: time.sleep(0.05)
"""
SLEEPING = "import os, time; print('ready', flush=True)\nwhile True: time.sleep(0.05)"


def _ended(process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
    assert process.stdout is not None
    out = process.stdout.read()
    return out, process.wait(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_us_is_the_scripts(number: signal.Signals, tmp_path: Path) -> None:
    with started("run", script(tmp_path, SLEEPING), cwd=tmp_path) as process:
        process.send_signal(number)
        assert _ended(process)[1] == -number
        assert said(tmp_path, "end.json")["exit_status"] == -number


def test_a_script_that_handles_signals_gets_each_once(tmp_path: Path) -> None:
    with started("run", script(tmp_path, COUNTING), cwd=tmp_path) as process:
        assert process.stdout is not None
        for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGHUP", "SIGINT", "SIGQUIT"):
            process.send_signal(signal.Signals[name])
            assert process.stdout.readline() == f"{name}\n".encode()
        process.terminate()
        out, status = _ended(process)
        assert (out, status) == (b"SIGTERM\n", 5)


def test_the_scripts_signal_mask_and_handlers_are_the_shells(tmp_path: Path) -> None:
    text = (
        "import signal; print(signal.pthread_sigmask(0, []), "
        "[signal.getsignal(n) for n in sorted(signal.valid_signals())])"
    )
    name = script(tmp_path, text)

    def told(*command: str) -> bytes:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60)
        return done.stdout.replace(b" at 0x", b"")

    def preset(command: str) -> bytes:
        out = told("sh", "-c", f"trap '' HUP USR1; exec {command}")
        return out[: out.index(b"default_int_handler")]

    python = f"{sys.executable} {name}"
    under = f"{sys.executable} -m speedprof run --python {sys.executable} {name}"
    assert preset(under) == preset(python)


def test_the_script_dies_with_a_killed_launcher(tmp_path: Path) -> None:
    text = (
        "import os, time; print('ready', flush=True); open('pid', 'w').write(str(os.getpid()))\n"
    )
    with started("run", script(tmp_path, text + "time.sleep(600)"), cwd=tmp_path) as process:
        wait_until(
            lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), "no pid"
        )
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        process.kill()
        _ended(process)
        wait_until(lambda: not alive(pid), "the script outlived the launcher")


class _Terminal:
    """A shell-like parent: `speedprof` in the foreground of a terminal of its own."""

    def __init__(self, *arguments: str, cwd: Path, command: Sequence[str] = COMMAND) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], [*command, *arguments], environment(TERM="dumb"))
        self.seen = b""

    def read_until(self, wanted: bytes) -> None:
        """Read on until something new is seen."""
        fresh = b""
        while wanted not in fresh:
            assert select.select([self.descriptor], [], [], 20)[0], fresh
            fresh += os.read(self.descriptor, 4096)
        self.seen += fresh

    def type(self, key: bytes) -> None:
        os.write(self.descriptor, key)

    def status(self) -> int:
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while True:
                self.seen += os.read(self.descriptor, 4096)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_ctrl_c_reaches_the_script_once_and_the_run_is_reported(tmp_path: Path) -> None:
    text = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('interrupted', flush=True))\n"
        "print('ready', flush=True)\ntime.sleep(1)\nraise SystemExit(9)"
    )
    terminal = _Terminal("run", script(tmp_path, text), cwd=tmp_path)
    terminal.read_until(b"ready")
    terminal.type(b"\x03")
    assert terminal.status() == 9
    assert terminal.seen.count(b"interrupted") == 1
    assert said(tmp_path, "end.json")["exit_status"] == 9


def test_ctrl_c_ends_the_script_by_its_own_handler(tmp_path: Path) -> None:
    terminal = _Terminal("run", script(tmp_path, SLEEPING), cwd=tmp_path)
    terminal.read_until(b"ready")
    terminal.type(b"\x03")
    assert terminal.status() == -signal.SIGINT
    assert terminal.seen.count(b"KeyboardInterrupt") == 1
    assert b"speedprof:" in terminal.seen.rpartition(b"KeyboardInterrupt")[2]


def test_ctrl_backslash_quits(tmp_path: Path) -> None:
    terminal = _Terminal("run", script(tmp_path, SLEEPING), cwd=tmp_path)
    terminal.read_until(b"ready")
    terminal.type(b"\x1c")
    assert terminal.status() == -signal.SIGQUIT


def test_ctrl_z_stops_us_with_the_script_and_both_go_on(tmp_path: Path) -> None:
    name = script(tmp_path, COUNTING)
    shell = _Terminal(cwd=tmp_path, command=("bash", "--norc", "--noprofile", "-i"))
    shell.type(f"PS1=; {' '.join(COMMAND)} run {name}\n".encode())
    shell.read_until(b"ready\r\n")
    shell.type(b"\x1a")
    shell.read_until(b"Stopped")
    shell.type(b"fg\n")
    wait_until(lambda: os.tcgetpgrp(shell.descriptor) != shell.pid, "not in the foreground")
    shell.type(b"\x03")
    shell.read_until(b"SIGINT\r\n")
    shell.type(b"\x1a")
    shell.read_until(b"Stopped")
    shell.type(b"bg; kill -TERM %1; wait %1; exit\n")
    assert shell.status() == 5
    assert b"SIGTERM" in shell.seen


def test_a_signal_to_the_whole_group_reaches_the_script_once(tmp_path: Path) -> None:
    with started("run", script(tmp_path, COUNTING), cwd=tmp_path) as process:
        assert process.stdout is not None
        for name in ("SIGUSR1", "SIGHUP", "SIGUSR1", "SIGUSR1"):
            os.killpg(process.pid, signal.Signals[name])
            assert process.stdout.readline() == f"{name}\n".encode()
        process.send_signal(signal.SIGUSR2)
        assert process.stdout.readline() == b"SIGUSR2\n"
        os.killpg(process.pid, signal.SIGTERM)
        out, status = _ended(process)
        assert (out, status) == (b"SIGTERM\n", 5)


def test_a_stop_and_a_go_to_us_alone_are_the_scripts(tmp_path: Path) -> None:
    with started("run", script(tmp_path, COUNTING), cwd=tmp_path) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"SIGUSR1\n"


def test_ctrl_c_while_the_report_is_made_ends_us_at_once_as_the_script_ended(
    tmp_path: Path,
) -> None:
    text = (
        "import os, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "open('pid', 'w').write(str(os.getpid()))\nprint('ready', flush=True)\n"
        "time.sleep(0.5)\nraise SystemExit(3)"
    )
    with started("run", script(tmp_path, text), cwd=tmp_path) as process:
        pid = int((tmp_path / "pid").read_text())
        while process.poll() is None:
            if not alive(pid):
                process.send_signal(signal.SIGINT)
            time.sleep(0.002)
        assert process.returncode == 3
