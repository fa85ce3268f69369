"""In a recorded trace the training thread waits for its batch.

Does: says how much of the step that costs, and who made the batches, as far as the trace tells.
Why: other tools file this under idle time; whether worker processes are missing or too slow
    decides what to do.
Evidence: the loader's annotation on the training thread while the device is idle; its name says
    whether worker processes made the batches.
Threshold: 5 % of the step (torch-tb-profiler's and XProf's for loading).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import explain
from speedprof.advisor.shares import finding, worth_naming
from speedprof.profiler.loader_marks import BY_WORKERS, FLAG, IN_PROCESS
from speedprof.profiler.run import Run

NAME = "recorded-loading"
MAKERS = {
    IN_PROCESS: "the training thread makes its own batches, without worker processes",
    BY_WORKERS: "the worker processes deliver too late, and a trace does not show what they do",
}
UNKNOWN = "what it waits for was not recorded"


def check(run: Run) -> Finding | None:
    if run.kind != "trace" or explain(run) is not None:
        return None
    cost = worth_naming(run, "data_loading", 1.0)
    if cost is None:
        return None
    device = "computing stops" if run.device == "cpu" else "the GPU is idle"
    evidence = f"{makers(run)}: {device} meanwhile for {cost.text} of each step"
    return finding(cost, NAME, None, evidence=evidence)


def makers(run: Run) -> str:
    """Say who made the batches."""
    return MAKERS.get(run.environment.flags.get(FLAG, ""), UNKNOWN)
