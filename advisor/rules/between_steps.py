"""The script does something else between its steps.

Does: says how much of the time goes into work between steps that is no checkpoint, evaluation or
    logging.
Why: it is neither loading nor training; whoever wrote it may not know what it costs.
Evidence: time of the training thread between steps, and the source line where it was seen most.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.checkpointing import outside_part
from speedprof.advisor.shares import at, finding, top_line
from speedprof.profiler.run import Run

NAME = "between-steps"


def check(run: Run) -> Finding | None:
    cost = outside_part(run, "other_ms")
    if cost is None:
        return None
    line = top_line(run, "outside", "python", "waiting", "other")
    where = line.where if line else None
    evidence = f"work between steps{at(where)} takes {cost.text} for each step"
    return finding(cost, NAME, "other", evidence=evidence, where=where)
