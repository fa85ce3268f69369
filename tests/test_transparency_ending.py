"""Every way for a script to end: same status, output and last words, bare and measured."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from speedprof.tests.transparency import (
    LIMIT_S,
    UNAWARE,
    Outcome,
    Running,
    assert_same,
    both,
    run_command,
    write,
)

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

TRAIN = """
import atexit, os, signal, sys, threading, time, torch
atexit.register(lambda: print("atexit"))
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(30):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
    time.sleep(0.03)
print("trained", flush=True)
ENDING
"""
ENDINGS = {
    "exit status": "sys.exit(3)",
    "exit text": "sys.exit('a last word')",
    "exception": "def f():\n    raise ValueError('caf\\u00e9')\nf()",
    "chained exceptions": "try:\n    1 / 0\nfinally:\n    raise KeyError(1)",
    "_exit": "os._exit(7)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "abort": "os.abort()",
    "pipe": "os.kill(os.getpid(), signal.SIGPIPE)",
    "thread's exception": "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
    "excepthook": "sys.excepthook = lambda *e: print('theirs', e[0]); raise ValueError",
    "exec": "os.execvp(sys.executable, [sys.executable, '-c', 'print(1); raise SystemExit(5)'])",
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_as_it_would(tmp_path: Path, ending: str) -> None:
    train = TRAIN.replace("import torch", "").replace(", torch", "")
    light = ending not in ("exception", "_exit", "kill", "segmentation fault")
    if light:  # the ending alone, since importing torch is what costs
        train = train[: train.index("model =")] + train[train.index('print("trained"') :]
    else:
        train = TRAIN
    script = write(tmp_path, train.replace("ENDING", ENDINGS[ending]))
    bare, measured = both(tmp_path, [script.name])
    assert_same(bare, measured)
    assert b"trained" in bare.stdout
    assert measured.closing["exit_status"] == bare.status
    if not light:
        assert measured.report["run"]["exit_status"] == bare.status
        _assert_steps(measured, whole=ending == "exception", done=30)


def _assert_steps(measured: Outcome, *, whole: bool, done: int) -> None:
    """Assert that all steps are there, or all but the last half second's."""
    assert measured.report["run"]["steps"] >= (done if whole else 2)


def started(
    tmp_path: Path, manner: str, *, measured: bool, options: Sequence[str] = ("--json",)
) -> tuple[Running, int]:
    """Start an endless training; return it and its process once it trains."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    script = ["endless.py", manner]
    command = [sys.executable, *script]
    if measured:
        command = run_command(script, out=tmp_path, options=options)
    running = Running(command, cwd=UNAWARE, environment={"READY": str(writing)}, keep=(writing,))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        pid = int(
            pipe.read(16) if not _wait_readable(pipe.fileno()) else os.read(pipe.fileno(), 16)
        )
    return running, pid


def _wait_readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], LIMIT_S)[0])


def ended_by(
    tmp_path: Path, number: signal.Signals, manner: str, *, group: bool
) -> tuple[Outcome, Outcome]:
    """Send a signal to a bare and to a measured training, which run at the same time."""
    both_running = [started(tmp_path, manner, measured=measured) for measured in (False, True)]
    for running, _ in both_running:
        send = os.killpg if group else os.kill
        send(running.process.pid, number)
    bare, measured = (running.outcome() for running, _ in both_running)
    return bare, measured


@pytest.mark.parametrize(
    ("number", "manner", "group"),
    [
        (signal.SIGINT, "default", False),
        (signal.SIGTERM, "default", False),
        (signal.SIGINT, "catches", False),
        (signal.SIGTERM, "catches", True),
        (signal.SIGINT, "workers", False),
    ],
)
def test_a_signal_to_the_launcher_ends_the_training_as_if_it_were_the_script(
    tmp_path: Path, number: signal.Signals, manner: str, group: bool
) -> None:
    bare, measured = ended_by(tmp_path, number, manner, group=group)
    assert measured.status == bare.status
    assert measured.stdout == bare.stdout
    assert _last_line(measured.their_stderr) == _last_line(bare.stderr)
    assert measured.report["run"]["exit_status"] == bare.status
    _assert_steps(measured, whole=number == signal.SIGINT or manner == "catches", done=40)


def _last_line(stderr: bytes) -> bytes:
    return (stderr.splitlines() or [b""])[-1]


def test_a_kill_of_the_training_leaves_a_report_of_what_was_measured(tmp_path: Path) -> None:
    running, pid = started(tmp_path, "default", measured=True)
    os.kill(pid, signal.SIGKILL)
    outcome = running.outcome()
    assert outcome.status == -signal.SIGKILL
    assert outcome.report["run"]["exit_status"] == outcome.status
    _assert_steps(outcome, whole=False, done=40)


def test_ctrl_c_at_a_terminal_reaches_the_training_once(tmp_path: Path) -> None:
    """The terminal sends it to the whole group, so that passing it on would make it two."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    command = run_command(["endless.py", "counts"], out=tmp_path, options=("--quiet",))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(UNAWARE)
        os.environ["READY"] = str(writing)
        os.execv(command[0], command)
    os.close(writing)
    assert _wait_readable(reading)
    os.read(reading, 16)
    os.close(reading)
    os.write(terminal, b"\x03")
    shown = _read_to_the_end(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == -signal.SIGINT
    assert shown.count(b"interrupted") == 1
    assert shown.count(b"\nKeyboardInterrupt") == 1
    assert b"speedprof" in shown


def _read_to_the_end(terminal: int) -> bytes:
    shown = b""
    with contextlib.suppress(OSError):  # a terminal without a process fails with EIO
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    return shown


def test_each_stream_is_the_terminal_or_pipe_that_it_was(tmp_path: Path) -> None:
    script = write(tmp_path, "import os; print([os.isatty(n) for n in range(3)])")
    for streams in ("", "<pipe", "<pipe 2>pipe"):
        command = run_command([script.name], out=tmp_path, options=("--quiet",))
        bare, measured = (
            _on_terminal(each, streams, tmp_path)
            for each in ([sys.executable, script.name], command)
        )
        assert bare in measured
        assert bare.startswith(b"[")


def _on_terminal(command: Sequence[str], streams: str, cwd: Path) -> bytes:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command, cwd=cwd, stdout=slave, start_new_session=True,
        stdin=subprocess.DEVNULL if "<pipe" in streams else slave,
        stderr=subprocess.DEVNULL if "2>pipe" in streams else slave,
    )  # fmt: skip
    os.close(slave)
    process.wait(LIMIT_S)
    return _read_to_the_end(master)
