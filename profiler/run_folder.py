"""The folder of one run: made without clashes, named safely, found again."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from speedprof.profiler.errors import SpeedprofError

FORMAT = 1
DEFAULT_PARENT = "speedprof-runs"
LONGEST_NAME = 60  # characters; a path component holds 255 bytes
START, END = "run.json", "end.json"

Json = dict[str, object]


def safe_name(text: str) -> str:
    """Return text as a file name that no shell, terminal or page can stumble over."""
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    name = "-".join(part for part in kept.split("-") if part)[:LONGEST_NAME]
    return name.strip(".-") or "run"


def create(parent: Path, name: str, *, now: float | None = None, prefix: str = "") -> Path:
    """Make a new folder below parent and return its absolute path; raises OSError.

    A parent that did not exist is told to git as not worth keeping.
    """
    new = not parent.is_dir()
    parent.mkdir(parents=True, exist_ok=True)  # another run may make it in this very moment
    if new:
        (parent / ".gitignore").write_text("*\n", "utf-8")
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    stem = f"{prefix}{stamp}-{safe_name(name)}"
    for number in range(1, 10_000):
        folder = parent.absolute() / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{stem} and 9,999 more like it")


def write(path: Path, content: Json | str) -> None:
    """Write a file whole or not at all; raises OSError."""
    text = content
    if not isinstance(text, str):
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, "utf-8", errors="replace")  # JSON has no word for a stray byte
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # what is half written takes room from what is whole
        raise


def write_start(
    folder: Path,
    command: list[str],
    *,
    name: str,
    started_at: float,
    options: Json,
    version: str,
    kind: str = "run",
    script: Mapping[str, str] | None = None,
) -> None:
    """Say what is about to run, or which traces are read (kind "trace"); raises OSError."""
    write(
        folder / START,
        {
            "format": FORMAT,
            "name": name,
            "kind": kind,
            "command": command,
            "cwd": working_directory(),
            "started_at": started_at,
            "version": version,
            "options": options,
            "script": script,
            "host": os.uname().nodename,
            "python": ".".join(map(str, sys.version_info[:3])),
        },
    )


def cannot_write(folder: Path, error: OSError) -> str:
    """Say why a run folder is not, or not wholly, what it should be."""
    if not folder.is_dir():
        return (
            f"the run folder {folder} was deleted while the script ran; nothing is left to report"
        )
    return (
        f"the record is not whole: cannot write to {folder} ({error.strerror}); "
        "make room, or name another folder with --out DIR"
    )


def working_directory() -> str:
    """Return the working directory, "" where it was deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def runs(parent: Path) -> list[Path]:
    """Return the run folders below parent, the oldest first."""
    if not parent.is_dir():
        return []
    found = [(path.stat().st_mtime, path.parent) for path in parent.glob(f"*/{START}")]
    return [folder for _, folder in sorted(found)]


def find(named: str | None, parent: Path) -> Path:
    """Return the run that the user means: a path, a name (or its end) below parent, or the newest.

    Raises SpeedprofError where there is none, or several.
    """
    known = runs(parent)
    if named is None:
        if not known:
            raise SpeedprofError(f"no run in {parent}; `speedprof run train.py` makes one")
        return known[-1]
    path = Path(named)
    if (path / START).is_file():
        return path
    alike = [folder for folder in known if folder.name == named]
    alike = alike or [folder for folder in known if folder.name.endswith(f"-{named}")]
    if len(alike) == 1:
        return alike[0]
    if alike:
        names = ", ".join(folder.name for folder in alike[-3:])
        raise SpeedprofError(
            f"{named} could be any of {len(alike)} runs ({names}); name one wholly"
        )
    if path.exists():
        raise SpeedprofError(
            f"{named} is no run: it has no {START}; `speedprof list` shows the runs"
        )
    raise SpeedprofError(f"no run {named} here or in {parent}; `speedprof list` shows the runs")
