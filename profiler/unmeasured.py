"""Why a run has no training step, in one sentence with the remedy."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speedprof.profiler.record import FACT, frames

PROCESSES = "processes.jsonl"
MOST_READ = 4 << 20  # bytes of a record; what was seen stands at its beginning and end
HIDING = {  # python's options that keep sitecustomize or PYTHONPATH away
    "I": "ignores PYTHONPATH",
    "E": "ignores PYTHONPATH",
    "S": "skips sitecustomize",
}
MARK = "mark the steps with `for batch in speedprof.step(batches)` or `with speedprof.step():`"


@dataclass
class Reached:
    """Which processes the injection got into."""

    processes: int = 0
    torch: int = 0  # processes that imported it
    failed: list[str] = field(default_factory=list)  # why measuring could not begin


def reached(folder: Path) -> Reached:
    """Read what the processes said of themselves; lines that are damaged count for nothing."""
    found = Reached()
    try:
        lines = (folder / PROCESSES).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if not isinstance(said, dict):
            continue
        found.processes += "argv" in said
        found.torch += "torch" in said
        if "failed" in said:
            found.failed.append(str(said["failed"]))
    return found


def sentence(folder: Path, command: Sequence[str]) -> str:
    """Say why no step was measured in a run that has none."""
    seen = reached(folder)
    if seen.failed:
        return f"measuring could not begin: {seen.failed[0]}"
    if seen.torch:
        return _no_step(folder)
    if seen.processes:
        return _no_torch(seen, command)
    return _no_python(command)


def _no_python(command: Sequence[str]) -> str:
    flag = hiding_flag(command)
    if flag is not None:
        return (
            f"nothing was measured: python -{flag} {HIDING[flag]}, "
            f"by which speedprof gets into the script; leave -{flag} out"
        )
    return (
        f"nothing was measured: {command[0]} started no Python process that speedprof could "
        "get into; if it starts one elsewhere or clears PYTHONPATH (containers, ssh, sudo), "
        "run speedprof there instead"
    )


def _no_torch(seen: Reached, command: Sequence[str]) -> str:
    if _is_python(command[0]) and not _has_torch(command[0]):
        return (
            f"nothing was measured: there is no torch in {command[0]}'s environment; "
            "activate the one that the script needs, or name its interpreter with --python PATH"
        )
    many = (
        "the Python process"
        if seen.processes == 1
        else f"any of {seen.processes} Python processes"
    )
    return (
        f"nothing was measured: torch was not imported in {many}; is this the script that trains?"
    )


def _no_step(folder: Path) -> str:
    batches = _batches(folder)
    seen = f"{batches:,} batches from loaders" if batches else "no batch from a loader"
    return (
        "no training step was seen (an optimizer's update, or a backward pass on each batch); "
        f"seen: torch, {seen}; {MARK}"
    )


def _batches(folder: Path) -> int:
    """Count the batches that the records mention: the last word on each loader."""
    batches: dict[tuple[str, object], int] = {}
    for path in folder.glob("rank-*.rec"):
        with path.open("rb") as file:
            content = file.read(MOST_READ)
        for kind, payload, _ in frames(content):
            fact = json.loads(payload) if kind == FACT else {}
            if fact.get("fact") == "loader_use":
                batches[path.name, fact.get("number")] = int(fact.get("batches") or 0)
    return sum(batches.values())


def hiding_flag(command: Sequence[str]) -> str | None:
    """Return the option (I, E or S) by which a Python in the command line keeps us out."""
    for place, argument in enumerate(command):
        if not _is_python(argument):
            continue
        for option in command[place + 1 :]:
            if (
                not option.startswith("-")
                or option.startswith("--")
                or option in ("-m", "-c", "-")
            ):
                break
            for flag in HIDING:
                if flag in option[1:].split("X")[0].split("W")[0]:
                    return flag
    return None


def _is_python(argument: str) -> bool:
    return os.path.basename(argument).startswith(("python", "pypy"))


def _has_torch(python: str) -> bool:
    question = "import sys, importlib.util as u; sys.exit(u.find_spec('torch') is None)"
    try:
        return (
            subprocess.run(
                [python, "-c", question], capture_output=True, timeout=10, check=False
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return True  # cannot tell; the other sentence holds anyhow
