"""What a training does wrong without its costing any time: beside the bottleneck, never of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from speedprof.advisor.shares import at, plenty
from speedprof.profiler.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One fault, and the remedy that mends it; no gain is predicted, as no time is lost."""

    name: str
    sentence: str  # with the numbers, and what to write
    where: str | None  # "train.py:41"
    remedy: str  # of the catalogue


def repeated_order(run: Run) -> Remark | None:
    """Say that each epoch trains on the same order.

    Does: tells where a DistributedSampler shuffles each epoch alike.
    Why: its order is drawn from its seed and its epoch, and the epoch is 0 until `set_epoch` says
        otherwise (PyTorch's documentation of DistributedSampler).
    Evidence: passes over a training loader whose sampler had the same seed and epoch as in the
        pass before.
    Threshold: all passes but the first; a script that sets the epoch in some of them has its
        reasons.
    """
    alike = [
        loader
        for loader in run.loaders
        if loader.role == "training"
        and loader.repeated_orders
        and loader.repeated_orders >= loader.iterations - 1
    ]
    if not alike:
        return None
    worst = max(alike, key=lambda loader: loader.batches)
    passes = plenty((worst.repeated_orders or 0) + 1, "epoch")
    return Remark(
        name="repeated-order",
        sentence=f"the DistributedSampler of the loader{at(worst.where)} gave the same order in "
        f"{passes}: call sampler.set_epoch(epoch) before each",
        where=worst.where,
        remedy="set-epoch",
    )


REMARKS: tuple[Callable[[Run], Remark | None], ...] = (repeated_order,)


def remarks(run: Run) -> tuple[Remark, ...]:
    """Return what is wrong with the training itself."""
    found = (check(run) for check in REMARKS)
    return tuple(one for one in found if one is not None)
