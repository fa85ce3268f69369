"""Training stands still while checkpoints are written.

Does: says how much of the time goes into saving.
Why: saving less often, or in the background from a copy, leaves the trained weights as they are.
Evidence: time of the training thread inside saving calls, spread over the steps.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import Part, at, finding, fraction, top_line, worth_naming
from speedprof.profiler.run import Outside, Run

NAME = "checkpointing"


def outside_part(run: Run, field: str) -> Part | None:
    """Return one of the four parts of the outside phase, None where unknown or small."""
    if run.outside is None:
        return None
    total = sum(getattr(run.outside, name) for name in Outside.__struct_fields__)
    return worth_naming(run, "outside", fraction(getattr(run.outside, field), total))


def outside_finding(run: Run, field: str, rule: str, *, cause: str, doing: str) -> Finding | None:
    """Return the finding on one kind of work between steps, with its costliest line."""
    cost = outside_part(run, field)
    if cost is None:
        return None
    line = top_line(run, "outside", cause)
    where = line.where if line else None
    evidence = f"{doing}{at(where)} takes {cost.text} for each step"
    return finding(cost, rule, cause, evidence=evidence, where=where)


def check(run: Run) -> Finding | None:
    return outside_finding(
        run, "checkpoint_ms", NAME, cause="checkpoint", doing="writing checkpoints"
    )
