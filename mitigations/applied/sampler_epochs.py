"""Samplers of ranks that draw another order for each epoch, where no script tells them to."""

from __future__ import annotations

import functools
import weakref
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process
from speedprof.profiler.sampler_orders import order, shuffling


class Epochs:
    """The passes over each DistributedSampler, and who counts them."""

    def __init__(self, one: Applied) -> None:
        self._one = one
        self._before: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()
        self._told: weakref.WeakSet[Any] = weakref.WeakSet()
        self._telling = False

    def begins(self, loader: Any) -> None:
        """Go on to the next epoch where the last pass had this order and nobody says otherwise."""
        sampler = shuffling(loader)
        if sampler is None or sampler in self._told:
            return
        if self._before.get(sampler) == order(sampler):
            self._telling = True
            try:
                sampler.set_epoch(sampler.epoch + 1)
            finally:
                self._telling = False
            self._one.effects += 1
        self._before[sampler] = order(sampler)

    def told(self, sampler: Any) -> None:
        """Leave a sampler to the script, which calls `set_epoch` itself."""
        if not self._telling:
            self._told.add(sampler)
            self._one.note("the script calls set_epoch() itself")


def apply(process: Process, one: Applied) -> None:
    """Call `set_epoch` with the number of the pass, before each pass but the first."""
    from torch.utils.data import DataLoader, DistributedSampler

    found = Epochs(one)
    begins = process.fence.guard(f"remedy {one.name}: pass", found.begins)
    told = process.fence.guard(f"remedy {one.name}: told", found.told)
    iterate, tell = DataLoader.__iter__, DistributedSampler.set_epoch

    @functools.wraps(iterate)
    def __iter__(loader: Any) -> Any:  # noqa: N807 - its name in DataLoader
        begins(loader)
        return iterate(loader)

    @functools.wraps(tell)
    def set_epoch(sampler: Any, epoch: int) -> None:
        told(sampler)
        tell(sampler, epoch)

    process.patches.replace(
        DataLoader, "__iter__", __iter__, reason=f"{one.name}: another order for each epoch"
    )
    process.patches.replace(
        DistributedSampler,
        "set_epoch",
        set_epoch,
        reason=f"{one.name}: the script's own call wins",
    )
