"""Garbage collection that leaves the model, the data set and the modules alone."""

from __future__ import annotations

import functools
import gc
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process

# Young objects between two collections: Python's own 700 (2,000 since 3.13) is reached several
# times a step by frameworks that make small objects.
THRESHOLD = 50_000


def apply(process: Process, one: Applied) -> None:
    """Freeze what exists at the first update, and collect less often from then on.

    What is freed by reference counts is freed as before; only cycles wait longer.
    """
    import torch

    before = gc.get_threshold()
    ours = (max(before[0], THRESHOLD), *before[1:])
    original = torch.optim.Optimizer.zero_grad

    def freeze() -> None:
        if one.effects or not gc.isenabled():
            return
        gc.collect()
        gc.freeze()
        gc.set_threshold(*ours)
        one.effects += 1

    fence = process.fence.guard(f"remedy {one.name}", freeze)

    @functools.wraps(original)
    def zero_grad(optimizer: Any, *arguments: Any, **keywords: Any) -> None:
        fence()
        original(optimizer, *arguments, **keywords)

    process.patches.replace(
        torch.optim.Optimizer, "zero_grad", zero_grad, reason=f"{one.name}: freeze at the first"
    )

    def undo() -> None:
        if one.effects:
            if gc.get_threshold() == ours:
                gc.set_threshold(*before)
            gc.unfreeze()

    process.changed(f"gc.threshold: {one.name}: {THRESHOLD}", undo)
