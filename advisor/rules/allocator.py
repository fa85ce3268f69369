"""The device waits while memory is allocated and freed.

Does: says how much of the step goes into the allocator.
Why: a caching allocator that keeps asking the driver has no room or too many sizes to serve.
Evidence: the device is idle while the training thread is inside memory allocation calls.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.launch_bound import host_part
from speedprof.advisor.shares import finding, percent
from speedprof.profiler.run import Run

NAME = "allocator"


def check(run: Run) -> Finding | None:
    cost = host_part(run, "allocator_ms")
    if cost is None:
        return None
    evidence = f"allocating and freeing memory takes {cost.text} of each step{_full(run)}"
    evidence += circumstances.joined(circumstances.shapes(run))
    return finding(cost, NAME, "allocator", evidence=evidence)


def _full(run: Run) -> str:
    """Say how full the device was at its fullest, where both numbers are known."""
    fullest = [
        rank.peak_device_bytes / rank.device_memory_bytes
        for rank in run.ranks
        if rank.peak_device_bytes and rank.device_memory_bytes
    ]
    return f"; the device's memory was up to {percent(max(fullest))} full" if fullest else ""
