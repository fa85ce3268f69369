"""Batches are copied to the device from pageable memory.

Does: says how much of the step goes into copies that need a detour through a staging buffer.
Why: from pinned memory the device copies by itself, faster, while the host goes on.
Evidence: kind of source memory of each host-to-device copy in the recorded windows.
Threshold: 5 % of the step (TraceLens' for copies); Nsight Systems warns of any pageable copy,
    which on real traces names 4-byte losses.
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import finding, number, size, worth_naming
from speedprof.profiler.run import Copies, Run

NAME = "pageable-copies"


def pageable_fraction(copies: Copies | None) -> float | None:
    """Return how much of the copying is from pageable memory, None where not measured."""
    if copies is None or copies.pageable_ms is None:
        return None
    total = copies.pageable_ms + (copies.pinned_ms or 0.0)
    return copies.pageable_ms / total if total > 0 else 0.0


def check(run: Run) -> Finding | None:
    copies = run.copies
    cost = worth_naming(run, "host_to_device", pageable_fraction(copies))
    if copies is None or cost is None:
        return None
    loader = run.training_loader()
    amount = f" of {size(copies.bytes)}" if copies.bytes else ""
    speed = f" at {number(copies.gb_per_s)} GB/s" if copies.gb_per_s else ""
    roof = circumstances.joined(circumstances.link(run))
    evidence = f"copies{amount} from pageable memory{speed} take {cost.text} of each step{roof}"
    where = loader.where if loader else None
    return finding(cost, NAME, "pageable_memory", evidence=evidence, where=where)
