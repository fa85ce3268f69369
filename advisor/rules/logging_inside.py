"""Logging takes a visible part of the training time.

Does: says how much of the time goes into printing, writing metrics and drawing progress.
Why: a number every fifty steps tells the same as one every step.
Evidence: time of the training thread in logging libraries and file writes between steps.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.checkpointing import outside_finding
from speedprof.profiler.run import Run

NAME = "logging-inside"


def check(run: Run) -> Finding | None:
    return outside_finding(run, "logging_ms", NAME, cause="logging", doing="logging")
