"""How long `speedprof analyze` takes, how much memory, and how both grow with the trace.

    python benchmarks/analyze.py --traces ../shared/traces --hta-venv /tmp/hta \
        --out benchmarks/results

Three parts: `pairs` (a recorded trace of 54 MB, beside HTA's load and temporal breakdown),
`sizes` (synthetic traces up to 2 GB), `ranks` (a folder of 64, a folder of 1,000). HTA lives in
an environment of its own, which is made where it is absent. The traces are made in a temporary
folder, at most 2 GB of it at a time, and deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import analyze_tables as tables
import pairs
import synthetic_traces
from synthetic_steps import Training

from speedprof.commands.closing import NEEDED

HTA = "HolisticTraceAnalysis==0.5.0"
TRACE = "nccl2020_v100.json.gz"
SIZES = (50e6, 200e6, 800e6, 2e9)
PARTS = ("pairs", "sizes", "ranks")
TOOLS = ("speedprof", "speedprof, imported", "HTA")
SETS = {64: 20, 1_000: 2}  # ranks -> steps of each
LAYERS_OF_A_SET = 20
QUICK_SIZES, QUICK_SETS = (5e6, 20e6), {4: 5, 16: 2}
# Both say what they took themselves: without the start of Python and the imports
HTA_SCRIPT = """
import json, sys, time
from hta.trace_analysis import TraceAnalysis
began = time.perf_counter()
table = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="/").get_temporal_breakdown(
    visualize=False
)
ended = time.perf_counter()
busy = 100.0 - float(table["idle_time_pctg"].iloc[0])
print()
print(json.dumps({"work_s": ended - began, "busy": busy}))
"""
OUR_SCRIPT = """
import importlib, json, resource, sys, time
watched, *modules = sys.argv[1].split(",")
for name in modules:
    importlib.import_module(name)
from speedprof.commands import main
sys.argv[1:2] = []
began = time.perf_counter()
try:
    main()
finally:
    ended = time.perf_counter()
    lines = open("/proc/self/status").read().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with open(watched, "w") as file:
        json.dump({"work_s": ended - began, "own_kib": own, "child_kib": children}, file)
"""
# imported before the clock of "speedprof, imported" starts, as HTA's imports are
IMPORTED = ("speedprof.commands.analyze", "speedprof.profiler.trace_export", *NEEDED)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One command to its end."""

    wall_s: float
    cpu_s: float  # with its children
    peak_mib: float  # of the largest of its processes
    work_s: float | None = None  # as the command itself tells: without start and imports
    own_mib: float | None = None  # of its first process
    child_mib: float | None = None  # of the largest other; None where there was none


class CommandError(Exception):
    """A command ended badly; says which and how."""


def ran(command: list[str], folder: Path) -> tuple[Ran, str]:
    """Run a command, wait for it and return what it took and what it said; raises CommandError."""
    output = folder / "output.txt"
    with output.open("wb") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    text = output.read_text(encoding="utf-8", errors="replace")
    if process.returncode:
        raise CommandError(f"{' '.join(command)} ended with {process.returncode}:\n{text[-2000:]}")
    cpu_s, peak_mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    return Ran(wall_s=wall_s, cpu_s=cpu_s, peak_mib=peak_mib), text


def analyzed(traces: Iterable[Path], folder: Path) -> Ran:
    """Run the command as its users do."""
    command = [sys.executable, "-m", "speedprof", "analyze", *map(str, traces), "--json"]
    return ran([*command, "--out", str(folder / "runs")], folder)[0]


def watched(traces: Iterable[Path], folder: Path, modules: Iterable[str] = ()) -> Ran:
    """Run the command with its own clock and its memory apart from its children's."""
    told = folder / "watched.json"
    first = ",".join([str(told), *modules])
    command = [sys.executable, "-c", OUR_SCRIPT, first, "analyze", *map(str, traces), "--json"]
    outer, _ = ran([*command, "--out", str(folder / "runs")], folder)
    inner = json.loads(told.read_text())
    return Ran(
        wall_s=outer.wall_s,
        cpu_s=outer.cpu_s,
        peak_mib=outer.peak_mib,
        work_s=inner["work_s"],
        own_mib=inner["own_kib"] / 1024,
        child_mib=inner["child_kib"] / 1024 or None,
    )


def breakdown(python: Path, trace: Path, folder: Path) -> Ran:
    """Run HTA's load and temporal breakdown."""
    outer, text = ran([str(python), "-c", HTA_SCRIPT, str(trace.resolve())], folder)
    told = json.loads(text.strip().splitlines()[-1])
    return Ran(
        wall_s=outer.wall_s, cpu_s=outer.cpu_s, peak_mib=outer.peak_mib, work_s=told["work_s"]
    )


def prepare_hta(folder: Path) -> Path:
    """Return the Python of HTA's environment; make it where it is absent."""
    python = folder / "bin" / "python"
    if not next(folder.glob("lib/python*/site-packages/hta"), None):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", HTA], check=True)
    return python.absolute()


def paired(trace: Path, python: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Measure both tools on one trace, interleaved; the first run of each warms the caches."""
    start = {
        "speedprof": lambda: analyzed([trace], folder),
        "speedprof, imported": lambda: watched([trace], folder, IMPORTED),
        "HTA": lambda: breakdown(python, trace, folder),
    }
    for name in TOOLS:
        start[name]()
    found: dict[str, list[Ran]] = {name: [] for name in TOOLS}
    for _, name in pairs.interleaved(TOOLS, rounds):
        found[name].append(start[name]())
    result = {"trace": trace.name, "hta": HTA, **compared(found), "rounds": found}
    print(tables.paired_lines(result), flush=True)
    return result


def compared(found: dict[str, list[Ran]]) -> dict[str, Any]:
    """Return what each took, and by how much HTA takes longer, round by round."""
    ours, inside, theirs = (found[name] for name in TOOLS)
    work = [ran.work_s or 0.0 for ran in inside]
    their_work = [ran.work_s or 0.0 for ran in theirs]
    return {
        "wall_s": pairs.estimate([ran.wall_s for ran in ours]),
        "cpu_s": pairs.estimate([ran.cpu_s for ran in ours]),
        "peak_mib": max(ran.peak_mib for ran in ours),
        "hta_wall_s": pairs.estimate([ran.wall_s for ran in theirs]),
        "hta_peak_mib": max(ran.peak_mib for ran in theirs),
        "work_s": pairs.estimate(work),
        "hta_work_s": pairs.estimate(their_work),
        "ratio_of_commands": _ratio([r.wall_s for r in theirs], [r.wall_s for r in ours]),
        "ratio_without_imports": _ratio(their_work, work),
        "ratio_command_to_hta_without_imports": _ratio(their_work, [r.wall_s for r in ours]),
    }


def _ratio(theirs: list[float], ours: list[float]) -> pairs.Estimate:
    return pairs.estimate([their / our for their, our in zip(theirs, ours, strict=True)])


def sizes(wanted: Iterable[float], folder: Path) -> list[dict[str, Any]]:
    """Measure synthetic traces of growing size, each alone on the disk."""
    training, results = Training(), []
    for size in wanted:
        path = folder / "synthetic.json"
        steps = synthetic_traces.steps_of(size, training)
        written = synthetic_traces.write(path, training, steps=steps)
        took = analyzed([path], folder)
        path.unlink()
        results.append(
            {
                "bytes": written.bytes,
                "events": written.events,
                "steps": written.steps,
                "seconds_per_million": took.wall_s / written.events * 1e6,
                "took": took,
            }
        )
        print(tables.size_line(results[-1]), flush=True)
    return results


def ranks(wanted: dict[int, int], folder: Path) -> list[dict[str, Any]]:
    """Measure folders of so many ranks, each of so many steps."""
    results = []
    for count, steps in wanted.items():
        place = folder / f"{count}-ranks"
        place.mkdir()
        total = 0
        for rank in range(count):
            training = Training(layers=LAYERS_OF_A_SET, rank=rank, world_size=count)
            path = place / f"rank-{rank}.json"
            total += synthetic_traces.write(path, training, steps=steps).events
        results.append(
            {"ranks": count, "steps": steps, "events": total, "took": watched([place], folder)}
        )
        shutil.rmtree(place)
        print(tables.ranks_line(results[-1]), flush=True)
    return results


def growth(results: list[dict[str, Any]]) -> float | None:
    """Return how many times as long an event of the largest trace takes as one of the second.

    In CPU time, which neighbours hardly touch; that of the smallest trace, which is the start's
    for the most part, is taken off. 1 is linear; None of fewer than three sizes.
    """
    if len(results) < 3:
        return None
    first, second, *_, last = sorted(results, key=lambda result: result["events"])
    slopes = [
        (one["took"].cpu_s - first["took"].cpu_s) / (one["events"] - first["events"])
        for one in (second, last)
    ]
    return slopes[1] / slopes[0] if slopes[0] > 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure speedprof analyze.")
    parser.add_argument("--traces", type=Path, required=True, help=f"the folder of {TRACE}")
    parser.add_argument("--hta-venv", type=Path, default=Path(tempfile.gettempdir()) / "hta")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="three rounds, small traces")
    parser.add_argument("--part", choices=PARTS)
    options = parser.parse_args()
    file = "analyze-quick" if options.quick else "analyze"
    whole = earlier(options.out / f"{file}.json") if options.part else {}
    with tempfile.TemporaryDirectory(prefix="speedprof-bench-") as name:
        folder, wanted = Path(name), options.part
        if wanted in (None, "pairs"):
            python = prepare_hta(options.hta_venv)
            rounds = 3 if options.quick else options.rounds
            found = paired(options.traces / TRACE, python, folder, rounds)
            whole["pairs"] = {"machine": machine(), **found}
        if wanted in (None, "sizes"):
            cases = sizes(QUICK_SIZES if options.quick else SIZES, folder)
            grown = growth(cases)
            whole["sizes"] = {"machine": machine(), "growth": grown, "cases": cases}
            print(f"growth of the time an event: {grown}; 1 is linear", flush=True)
        if wanted in (None, "ranks"):
            cases = ranks(QUICK_SETS if options.quick else SETS, folder)
            whole["ranks"] = {"machine": machine(), "cases": cases}
    pairs.write(options.out, file, whole)


def machine() -> dict[str, Any]:
    """Describe the machine, and how far we stood back for others."""
    return {**pairs.machine(), "niceness": os.nice(0)}


def earlier(path: Path) -> dict[str, Any]:
    """Return the parts that an earlier run left in the file, each with its machine."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {part: found[part] for part in PARTS if part in found}


if __name__ == "__main__":
    main()
