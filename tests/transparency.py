"""The same command bare and under `speedprof run`, side by side."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import speedprof

INJECTED = str(Path(speedprof.__file__).parent / "profiler" / "inject")
UNAWARE = Path(__file__).parent / "unaware"  # scripts that do not know that they are measured
SPEEDPROF = (sys.executable, "-m", "speedprof")
# torch's own C++ log lines carry the time and the process's number
KINETO = re.compile(rb"^(?:ERROR|WARNING|STAGE|INFO|USDT):\d{4}-\d\d-\d\d .*\n", re.MULTILINE)
# what triton's bindings say as Python ends, in an order that changes from run to run
NANOBIND = re.compile(rb"^(?:nanobind: | - |See https://nanobind).*\n?", re.MULTILINE)
LIMIT_S = 120


@dataclass(frozen=True)
class Outcome:
    """What one run of a command left."""

    status: int  # negative: the signal
    stdout: bytes
    stderr: bytes

    @property
    def closing(self) -> dict[str, Any]:
        """Return what speedprof said last; the run must have been made with ``--json``."""
        closing: dict[str, Any] = json.loads(self.stderr[self.stderr.rindex(b'{"folder": ') :])
        return closing

    @property
    def folder(self) -> Path:
        return Path(self.closing["folder"])

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = self.closing["report"]
        return report

    @property
    def their_stderr(self) -> bytes:
        """Return stderr without our closing line."""
        return self.stderr[: self.stderr.rindex(b'{"folder": ')]


class Running:
    """A command that has been started."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        self._stdin = stdin
        self.process = subprocess.Popen(
            command, cwd=cwd, env=_environment(environment), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            pass_fds=keep,
        )  # fmt: skip

    def outcome(self) -> Outcome:
        try:
            stdout, stderr = self.process.communicate(self._stdin, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        return Outcome(self.process.returncode, stdout, stderr)


def write(folder: Path, source: str, name: str = "train.py") -> Path:
    """Write a script."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), "utf-8")
    return path


def run_command(
    arguments: Sequence[str], *, out: Path, options: Sequence[str] = ("--json",)
) -> list[str]:
    """Return the command line that measures what `arguments` name."""
    return [*SPEEDPROF, "run", "--out", str(out), *options, *arguments]


def both(
    cwd: Path,
    arguments: Sequence[str],
    *,
    out: Path | None = None,
    options: Sequence[str] = (),
    whole: bool = False,
    **how: Any,
) -> tuple[Outcome, Outcome]:
    """Run a Python script (`whole`: any command) bare and measured, at the same time."""
    bare = list(arguments) if whole else [sys.executable, *arguments]
    named = ["--", *arguments] if whole else list(arguments)
    out = out or cwd.parent / f"{cwd.name}-runs"
    measured = run_command(named, out=out, options=("--json", *options))
    running = [Running(command, cwd=cwd, **how) for command in (bare, measured)]
    first, second = (each.outcome() for each in running)
    return first, second


def assert_same(bare: Outcome, measured: Outcome) -> None:
    """Assert that whoever called the script cannot tell the two runs apart, but for our end."""
    assert measured.status == bare.status, measured.stderr.decode(errors="replace")
    assert measured.stdout == bare.stdout
    assert _quieted(measured.their_stderr) == _quieted(bare.stderr)


def _quieted(stderr: bytes) -> bytes:
    return NANOBIND.sub(b"", KINETO.sub(b"", stderr))


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {limit_s:.0f} s"
        time.sleep(0.02)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return this process's environment without what the test runner or a colleague put there."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPEEDPROF_", "PYTEST_", "PYTHON", "COV_", "KINETO_"))
    }
    return {**kept, **(extra or {})}
