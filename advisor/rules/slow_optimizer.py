"""The optimizer's update takes a visible part of the step.

Does: says how much of the step the update itself costs.
Why: one tensor at a time, an update is a chain of tiny operators over all of the model's memory;
    the fused implementation reads and writes each value once.
Evidence: time of the optimizer inside compute, and which implementation the script chose.
Threshold: 10 % of the step (TraceML's warning level for overhead): the update is needed, only its
    excess can be saved. Silent where the fused implementation is in use already.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import finding, fraction, plenty, worth_naming
from speedprof.profiler.run import Optimizer, Run

NAME = "slow-optimizer"
OPTIMIZER_SHARE = 0.10


def check(run: Run) -> Finding | None:
    if run.compute is None or not run.phases or not run.optimizers:
        return None
    inside = fraction(run.compute.optimizer_ms, run.phases["compute"].ms)
    cost = worth_naming(run, "compute", inside)
    slowest = max(run.optimizers, key=lambda optimizer: optimizer.elements or 0)
    if cost is None or cost.share < OPTIMIZER_SHARE or slowest.fused:
        return None
    evidence = f"the update of {_described(slowest)} takes {cost.text} of each step"
    return finding(cost, NAME, "memory_bandwidth", evidence=evidence, where=slowest.where)


def _described(optimizer: Optimizer) -> str:
    how = "one tensor at a time" if optimizer.foreach is False else "not fused"
    tensors = f", {plenty(optimizer.parameters, 'tensor')}" if optimizer.parameters else ""
    return f"{optimizer.name} ({how}{tensors})"
