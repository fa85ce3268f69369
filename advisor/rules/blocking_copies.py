"""The host stands still while pinned batches are copied.

Does: says how much of the step the training thread is blocked in copies that could run beside it.
Why: with `non_blocking=True` a copy from pinned memory overlaps with launching and computing.
Evidence: host time inside copy calls against the copying itself, for copies from pinned memory.
Threshold: 5 % of the step (TraceLens' for copies), and the host blocked for half of the copying
    time or more.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.pageable_copies import pageable_fraction
from speedprof.advisor.shares import finding, fraction, number, top_line, worth_naming
from speedprof.profiler.run import Run

NAME = "blocking-copies"
BLOCKED = 0.5  # of the copying time


def check(run: Run) -> Finding | None:
    copies, pageable = run.copies, pageable_fraction(run.copies)
    if copies is None or pageable is None:
        return None
    cost = worth_naming(run, "host_to_device", 1.0 - pageable)
    blocked = fraction(copies.blocking_ms, (copies.pageable_ms or 0) + (copies.pinned_ms or 0))
    if cost is None or blocked is None or blocked < BLOCKED:
        return None
    line = top_line(run, "host_to_device")
    evidence = (
        f"the training thread is blocked {number(copies.blocking_ms or 0)} ms in copies from "
        "pinned memory; "
        f"exposed copying takes {cost.text} of each step"
    )
    where = line.where if line else None
    return finding(cost, NAME, "blocking_copy", evidence=evidence, where=where)
