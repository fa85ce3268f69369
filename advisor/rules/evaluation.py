"""Evaluation takes a visible part of the training time.

Does: says how much of the time goes into evaluating between steps.
Why: evaluating less often or on fewer samples leaves the trained weights as they are.
Evidence: time between steps in which the model runs without gradients or an evaluation loader is
    read.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.checkpointing import outside_finding
from speedprof.profiler.run import Run

NAME = "evaluation"


def check(run: Run) -> Finding | None:
    return outside_finding(run, "evaluation_ms", NAME, cause="evaluation", doing="evaluating")
