"""Copy within the GPU's memory and to it from the host's, pageable and pinned.

Runs in the user's interpreter: the standard library and torch. Not yet run on a GPU.
"""

from __future__ import annotations

from speedprof.profiler.roofs.products import gpu_seconds
from speedprof.profiler.roofs.repeats import Plain, level, seconds

WITHIN_BYTES, ACROSS_BYTES = 1 << 30, 256 << 20
PART_OF_FREE = 8
BUDGET_S, CALLS = 1.0, 10


def within() -> Plain:
    """Return GB/s of the GPU's memory, bytes read plus bytes written."""
    import torch

    size = min(WITHIN_BYTES, int(torch.cuda.mem_get_info()[0]) // PART_OF_FREE)
    source = torch.ones(size // 4, device="cuda")
    target = torch.empty_like(source)

    def once() -> float:
        return 2 * CALLS * size / gpu_seconds(lambda: target.copy_(source), CALLS) / 1e9

    return level(once, budget_s=BUDGET_S)


def across(memory_bytes: int) -> Plain:
    """Return the fields of `roofs.Transfers`; `memory_bytes` of the host may be used."""
    import torch

    free = int(torch.cuda.mem_get_info()[0])
    size = min(ACROSS_BYTES, free // PART_OF_FREE, memory_bytes // PART_OF_FREE)
    target = torch.empty(size, dtype=torch.uint8, device="cuda")
    pageable = torch.ones(size, dtype=torch.uint8)
    pinned = pageable.pin_memory()

    def from_pinned() -> float:
        return size / gpu_seconds(lambda: target.copy_(pinned, non_blocking=True), 1) / 1e9

    def from_pageable() -> float:
        return size / seconds(lambda: (target.copy_(pageable), torch.cuda.synchronize())) / 1e9

    return {
        "bytes": size,
        "pinned_gb_per_s": level(from_pinned, budget_s=BUDGET_S),
        "pageable_gb_per_s": level(from_pageable, budget_s=BUDGET_S),
    }
