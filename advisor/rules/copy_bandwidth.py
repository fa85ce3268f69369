"""Copies to the device are as good as they get, there is only too much to copy.

Does: says how much of the step the link between host and device takes.
Why: what is left is to copy less (smaller types, uint8 images) or to copy earlier.
Evidence: copies from pinned memory that do not block the host, and are exposed all the same.
Threshold: 5 % of the step (TraceLens' for copies).
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.rules import blocking_copies
from speedprof.advisor.rules.pageable_copies import pageable_fraction
from speedprof.advisor.shares import finding, number, size, worth_naming
from speedprof.profiler.run import Run

NAME = "copy-bandwidth"


def check(run: Run) -> Finding | None:
    copies, pageable = run.copies, pageable_fraction(run.copies)
    if copies is None or pageable is None or copies.blocking_ms is None or not copies.bytes:
        return None
    cost = worth_naming(run, "host_to_device", 1.0 - pageable)
    if cost is None or blocking_copies.check(run) is not None:
        return None
    speed = f" at {number(copies.gb_per_s)} GB/s" if copies.gb_per_s else ""
    amount = f"{size(copies.bytes)} a step from pinned memory{speed}"
    roof = circumstances.joined(circumstances.link(run))
    evidence = f"{amount} leave {cost.text} of each step exposed{roof}"
    return finding(cost, NAME, "bandwidth", evidence=evidence)
