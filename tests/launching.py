"""Real `speedprof` processes for tests: started, signalled, read."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE_S = 60
COMMAND = (sys.executable, "-m", "speedprof")


def environment(**changes: str | None) -> dict[str, str]:
    """Return this environment with changes; None takes a variable away."""
    ours = ("SPEEDPROF_", "VIRTUAL_ENV", "CONDA_PREFIX", "KINETO_LOG_LEVEL")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {name: value for name, value in (clean | changes).items() if value is not None}


def speedprof(
    *arguments: str | bytes, cwd: Path, stdin: bytes = b"", **changes: str | None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_S,
        env=environment(**changes),
        check=False,
    )


def bare(
    *command: str | bytes, cwd: Path, stdin: bytes = b"", **changes: str | None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as it is, for comparison."""
    return subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_S,
        env=environment(**changes),
        check=False,
    )


@contextlib.contextmanager
def started(
    *arguments: str, cwd: Path, until: bytes = b"ready\n"
) -> Iterator[subprocess.Popen[bytes]]:
    """Have `speedprof` run in a process group of its own, from its first line on stdout on."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=os.setpgrp,  # noqa: PLW1509 - process_group is not in Python 3.10
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == until
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)


def script(folder: Path, text: str, name: str = "script.py") -> str:
    """Write a script; return its name, for use in its folder."""
    (folder / name).write_text(text, encoding="utf-8")
    return name


def only_run(folder: Path, parent: str = "speedprof-runs") -> Path:
    """Return the one run folder that there is."""
    (found,) = [path.parent for path in (folder / parent).glob("*/run.json")]
    return found


def said(folder: Path, file: str) -> Any:
    """Return a JSON file of the one run."""
    return json.loads((only_run(folder) / file).read_text(encoding="utf-8"))


def wait_until(true: Any, what: str) -> None:
    """Poll until something is true; fail with `what` where it never is."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, what
        select.select([], [], [], 0.02)


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
