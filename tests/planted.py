"""The planted bottlenecks: which script has which true cause, and what speedprof makes of it.

    python tests/planted.py --runs 5            # each script five times, one after the other
    python tests/planted.py --runs 5 --busy     # the same with a busy loop on one core

The second table, of loops, says how many steps each loop makes and what belongs to one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speedprof.profiler.steps import BY_BACKWARD, BY_LOADER, BY_OPTIMIZER, BY_USER

SCRIPTS = Path(__file__).parent / "scripts"
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
BUSY_LOOP = "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\nwhile True: pass"


def torchrun(ranks: int) -> list[str]:
    """Return the start of a command that runs a script on so many ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return ["--", *launcher, "--nproc-per-node", str(ranks)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A script and its true cause; no phase means that nothing is to stand out."""

    script: str
    phase: str | None
    cause: str | None
    ranks: int = 1

    @property
    def truth(self) -> str:
        return f"{self.phase}: {self.cause}" if self.phase else "nothing"

    @property
    def order(self) -> list[str]:
        """Return what comes after `speedprof run` for this script."""
        path = str(SCRIPTS / f"{self.script}.py")
        return [path] if self.ranks == 1 else [*torchrun(self.ranks), path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A loop and what a step of it is."""

    script: str
    steps: int
    batches_per_step: float | None
    updates_per_step: float | None
    definition: str


def _planted(script: str, phase: str | None, cause: str | None, ranks: int = 1) -> Planted:
    return Planted(script=script, phase=phase, cause=cause, ranks=ranks)


def _loop(
    script: str, definition: str, batches: float | None, updates: float | None, steps: int = 60
) -> Loop:
    return Loop(
        script=f"loops/{script}",
        steps=steps,
        batches_per_step=batches,
        updates_per_step=updates,
        definition=definition,
    )


PLANTED = (
    _planted("storage", "data_loading", "storage"),
    _planted("storage_workers", "data_loading", "storage"),
    _planted("cpu_preparation", "data_loading", "cpu_preparation"),
    _planted("cpu_preparation_worker", "data_loading", "cpu_preparation"),
    _planted("generator", "data_loading", "cpu_preparation"),
    _planted("batch_function", "data_loading", "cpu_preparation"),
    _planted("worker_handoff", "data_loading", "worker_handoff"),
    _planted("startup", "data_loading", "startup"),
    _planted("arithmetic", "compute", "arithmetic"),
    _planted("convolution", "compute", "arithmetic"),
    _planted("memory_bandwidth", "compute", "memory_bandwidth"),
    _planted("optimizer_state", "compute", "memory_bandwidth"),
    _planted("transfer", "communication", "transfer", ranks=2),
    _planted("straggler", "communication", "straggler", ranks=2),
    _planted("python_work", "host", "python"),
    _planted("synchronisation", "host", "synchronisation"),
    _planted("checkpoint", "outside", "checkpoint"),
    _planted("evaluation", "outside", "evaluation"),
    _planted("slow_logging", "outside", "logging"),
    _planted("balanced", None, None),
)

LOOPS = (
    _loop("accumulation", BY_LOADER, 4, 1),
    _loop("gan", BY_LOADER, 1, 2),
    _loop("several_loaders", BY_LOADER, 2, 1),
    _loop("validation", BY_LOADER, 1, 1),
    _loop("closure", BY_LOADER, 1, 1),
    _loop("grad_scaler", BY_LOADER, 1, 1),  # a skipped update was tried: a step
    _loop("without_gradients", BY_LOADER, 1, 1),
    _loop("without_loader", BY_OPTIMIZER, None, 1),
    _loop("by_hand", BY_BACKWARD, 60 / 57, None, steps=57),  # it shows after the fourth backward
    _loop("step_context", BY_USER, None, None),
    _loop("step_iterator", BY_USER, 1, None),
)


def run(folder: Path, *order: str) -> Path:
    """Run a script whole under speedprof in an empty folder; return the run's folder.

    `order` is what comes after `speedprof run` and its options. Raises AssertionError, with what
    the run said, where it failed or left no report.
    """
    speedprof = [sys.executable, "-m", "speedprof", "run", "--python", sys.executable]
    command = [*speedprof, "--out", "runs", "--quiet"]
    done = subprocess.run(
        [*command, *order],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    reports = list(folder.glob("runs/*/report.json"))
    assert len(reports) == 1, said
    return reports[0].parent


def report_of(run_folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run_folder / "report.json").read_text(encoding="utf-8"))
    return report


def verdict(report: dict[str, Any]) -> str:
    """Name the bottleneck of a report as `Planted.truth` does."""
    found = report["bottleneck"]
    if found is None or found.get("phase") is None:
        return "nothing"
    return f"{found['phase']}: {found['cause']}"


def told(report: dict[str, Any]) -> str:
    """Say what the report found, for a test that fails."""
    shares = {name: phase["share"] for name, phase in (report["phases"] or {}).items()}
    found = [(one["bottleneck"], one["share"], one["evidence"]) for one in report["findings"]]
    return json.dumps({"bottleneck": report["bottleneck"], "phases": shares, "findings": found})


@contextlib.contextmanager
def busy_core(*, wanted: bool) -> Iterator[None]:
    """Keep one core busy meanwhile."""
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) as loop:
        try:
            yield
        finally:
            loop.kill()


def judged(planted: Planted) -> dict[str, Any]:
    """Run one script and say whether the verdict is the truth."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = report_of(run(Path(folder), *planted.order))
        except AssertionError as failed:
            return {
                "script": planted.script,
                "truth": planted.truth,
                "verdict": "the run failed",
                "right": False,
                "told": str(failed),
            }
    shares = report["phases"] or {}
    right = verdict(report) == planted.truth
    result = {
        "script": planted.script,
        "truth": planted.truth,
        "verdict": verdict(report),
        "right": right,
        "shares": {name: round(phase["share"], 3) for name, phase in shares.items()},
        "step_ms": (report["run"]["step_ms"] or {}).get("median"),
        "wall_s": round(time.monotonic() - began, 1),
    }
    return result if right else {**result, "told": told(report)}


def machine() -> dict[str, Any]:
    import platform

    import torch

    model = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": model[0].split(":")[1].strip() if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": os.getloadavg()[2],  # before, over the last 15 minutes: 0 on an idle machine
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tabulate the verdicts on planted bottlenecks.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="with a busy loop on one core")
    parser.add_argument("--only", action="append", help="a script's name; may be repeated")
    return parser.parse_args()


def main() -> int:
    options = parse()
    chosen = [one for one in PLANTED if not options.only or one.script in options.only]
    results, where = [], machine()
    with busy_core(wanted=options.busy):
        for planted in chosen:
            runs = [judged(planted) for _ in range(options.runs)]
            results += runs
            right = sum(one["right"] for one in runs)
            wrong = {one["verdict"] for one in runs if not one["right"]}
            but = f", but {' and '.join(sorted(wrong))}" if wrong else ""
            name = f"{planted.script} ({planted.truth})"
            print(f"{name:60} {right} of {options.runs}{but}", flush=True)
            for one in runs:
                if not one["right"]:
                    print(f"    {one['told']}", flush=True)
    if not options.only:
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"planted-{'busy' if options.busy else 'idle'}.json"
        document = {"machine": where, "busy_core": options.busy, "runs": results}
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"written to {path}")
    return 0 if all(one["right"] for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
