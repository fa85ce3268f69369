"""The order in which a loader's DistributedSampler shuffles, and passes that repeat it."""

from __future__ import annotations

import sys
from typing import Any

A_PASS = 2  # batches: one that gives fewer looked at a shape, and trained no epoch


class Orders:
    """Passes over a loader that drew the order of the pass before once more."""

    __slots__ = ("_batches", "_last", "repeated")

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._batches = 0
        self.repeated: int | None = None  # None: no DistributedSampler shuffles

    def begins(self, loader: Any, batches: int) -> None:
        """Note a pass that begins; `batches` is how many the loader has given so far."""
        sampler = shuffling(loader)
        if sampler is None:
            return
        self.repeated = self.repeated or 0
        now = order(sampler)
        if now == self._last and batches - self._batches >= A_PASS:
            self.repeated += 1
        self._last, self._batches = now, batches


def shuffling(loader: Any) -> Any:
    """Return the DistributedSampler that shuffles for a loader, None where there is none."""
    distributed = sys.modules.get("torch.utils.data.distributed")
    if distributed is None:
        return None
    kind = distributed.DistributedSampler
    inside = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    for sampler in (getattr(loader, "sampler", None), inside):
        if isinstance(sampler, kind) and getattr(sampler, "shuffle", False):
            return sampler
    return None


def order(sampler: Any) -> tuple[int, int]:
    """Return what the order of the next pass is drawn from."""
    return sampler.seed, sampler.epoch
