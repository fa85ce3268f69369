"""The device waits for Python.

Does: says how much of the step the training thread spends in Python with the device idle, and in
    which line.
Why: such work can be left out, done less often, vectorised, or moved to a worker.
Evidence: stack samples of the training thread inside the recorded windows; garbage collector
    pauses.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.launch_bound import host_part
from speedprof.advisor.shares import at, finding, number, percent, top_line
from speedprof.profiler.run import Run

NAME = "python-time"
GARBAGE = 0.1  # of the Python time: from here the collector is worth a word


def check(run: Run) -> Finding | None:
    cost = host_part(run, "python_ms")
    if cost is None:
        return None
    line = top_line(run, "host", "python")
    most = ""
    if line is not None:
        what = "most of it" if line.share > cost.share / 2 else "the costliest line"
        most = f", {what} ({percent(line.share)}){at(line.where)} in {line.function}"
    pauses = (
        f"; the garbage collector pauses {number(run.garbage_ms)} ms a step"
        if run.garbage_ms and run.garbage_ms >= GARBAGE * cost.ms
        else ""
    )
    what = "takes" if run.device == "cpu" else "keeps the device waiting"
    evidence = f"Python {what} {cost.text} of each step{most}{pauses}"
    return finding(cost, NAME, "python", evidence=evidence, where=line.where if line else None)
