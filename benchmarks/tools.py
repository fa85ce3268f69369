"""How a script is started bare, under speedprof and under the peer, and what is read off."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import records

HERE = Path(__file__).parent
PEER = "traceml-ai==0.5.0"
WARMUP_SHARE, LEAST_WARMUP = 0.1, 12  # of the steps; speedprof's own warm-up is 10 steps
TIMES = "times.json"
TIMEOUT_S = 1_200


@dataclass(frozen=True, kw_only=True)
class Script:
    """One training to measure."""

    name: str
    path: Path
    arguments: tuple[str, ...]
    ranks: int = 1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One process, bare or under a tool; times of rank 0."""

    first_s: float  # from the start of the command to the end of the first step
    last_s: float  # from the end of the last step to the end of the command
    median_us: float  # of the untraced steps after warm-up
    mean_us: float
    steps: int
    peak_kib: int
    windows_ms: tuple[float, ...] = ()  # what each window added to the steps around it
    instructions: float | None = None  # mean of the steps after warm-up, all threads and workers
    own_instructions: float | None = None  # median of the same steps, the training thread alone


class CommandError(Exception):
    """A command ended badly; says which and how."""


def start(script: Script, tool: str, folder: Path, *, peer: Path | None = None) -> Measured:
    """Run the script once under `tool`; raises CommandError where it does not end well."""
    inner = ["--peer"] if tool == "peer, marked" else []
    command = _command(script, tool, folder, inner, peer)
    began, ended = run(command, folder)
    times = json.loads((folder / TIMES).read_text())
    return _measured(times, began, ended, folder)


def toggle(script: Script, folder: Path, *, every: int) -> tuple[list[int], list[bool]]:
    """Run the script once, probes on and off in turn.

    Return (ends of steps, whether they were on).
    """
    run(_command(script, "bare", folder, ["--toggle", str(every)], None), folder)
    times = json.loads((folder / TIMES).read_text())
    return times["ends"], times["on"]


def run(command: list[str], folder: Path, *, timeout_s: float = TIMEOUT_S) -> tuple[int, int]:
    """Run a command to its end; return when it began and ended.

    Raises CommandError where it does not end well, subprocess.TimeoutExpired where it takes too
    long.
    """
    folder.mkdir(parents=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("wb") as output:
        began = time.perf_counter_ns()
        done = subprocess.run(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, timeout=timeout_s,
            cwd=folder, env=environment, check=False,
        )  # fmt: skip
        ended = time.perf_counter_ns()
    if done.returncode:
        tail = (folder / "output.txt").read_text(errors="replace")[-2_000:]
        raise CommandError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    return began, ended


def _command(
    script: Script, tool: str, folder: Path, inner: list[str], peer: Path | None
) -> list[str]:
    watched = [
        str(HERE / "watched.py"),
        "--times",
        str(folder / TIMES),
        *inner,
        str(script.path),
        *script.arguments,
    ]
    spread = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(script.ranks)]
    bare = [*spread, *watched] if script.ranks > 1 else [sys.executable, *watched]
    if tool == "bare":
        return bare
    if tool.startswith("speedprof"):
        options = ["--no-windows"] if tool == "speedprof, no windows" else []
        return [
            sys.executable,
            "-m",
            "speedprof",
            "run",
            "--out",
            str(folder),
            *options,
            "--",
            *bare,
        ]
    ranks = ["--nproc-per-node", str(script.ranks)] if script.ranks > 1 else []
    return [
        str(peer), "run", "--logs-dir", str(folder / "logs"), "--run-name", "run", *ranks,
        watched[0], "--args", *watched[1:],
    ]  # fmt: skip


def _measured(times: dict[str, list[int]], began: int, ended: int, folder: Path) -> Measured:
    ends = times["ends"]
    spans = list(itertools.pairwise(ends))
    warmup = max(LEAST_WARMUP, int(len(spans) * WARMUP_SHARE))
    steady, counts = spans[warmup:], times["counts"][warmup:]
    own = [after - before for before, after in itertools.pairwise(times["own"][warmup:])]
    found = records.of_first_rank(folder)
    windows = records.stretches(records.rows(found)) if found else []
    plain = [
        step[1] - step[0]
        for step in steady
        if not any(records.inside(step, window) for window in windows)
    ]
    if not plain:
        raise CommandError(f"{len(ends)} steps are too few to leave any after warm-up and windows")
    middle = statistics.median(plain)
    return Measured(
        first_s=(ends[0] - began) / 1e9,
        last_s=(ended - ends[-1]) / 1e9,
        median_us=middle / 1e3,
        mean_us=statistics.fmean(plain) / 1e3,
        steps=len(ends),
        peak_kib=times["peak_kib"],  # type: ignore[arg-type]
        windows_ms=tuple(records.cost_ms(spans, window, middle) for window in windows),
        instructions=(counts[-1] - counts[0]) / (len(counts) - 1) if len(counts) > 1 else None,
        own_instructions=statistics.median(own) if own else None,
    )


def prepare_peer(folder: Path) -> Path | None:
    """Return the peer's command, from an environment that shares our heavy packages, or None."""
    command = folder / "bin" / "traceml"
    if command.exists():
        return command
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    shared = "\n".join(entry for entry in sys.path if entry.endswith("site-packages"))
    (packages / "shared.pth").write_text(shared + "\n", encoding="utf-8")
    done = subprocess.run([str(folder / "bin" / "pip"), "install", "-q", PEER], check=False)
    return command if done.returncode == 0 and command.exists() else None
