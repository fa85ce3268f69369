"""Samplers of ranks that draw another order for each epoch, where no script tells them to.

All ranks have to draw the same order, and one of them may look at a batch that the others do not
look at. So an epoch is a pass in which, or after which, something was trained: a pass beside one
that goes on is none, nor is what comes before the first update.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process
from speedprof.profiler.sampler_orders import order, shuffling


@dataclass(slots=True)
class _Pass:
    order: tuple[int, int]
    updates: int  # of all optimizers, before it began
    passing: weakref.ref[Any] | None = None  # its iterator


class Epochs:
    """The passes over each DistributedSampler, and who counts them."""

    def __init__(self, one: Applied) -> None:
        self._one = one
        self._updates = 0
        self._last: weakref.WeakKeyDictionary[Any, _Pass] = weakref.WeakKeyDictionary()
        self._told: weakref.WeakSet[Any] = weakref.WeakSet()
        self._over: weakref.WeakSet[Any] = weakref.WeakSet()  # passes that came to their end
        self._telling = False

    def begins(self, loader: Any) -> None:
        """Go on to the next epoch where the last pass had this order and nobody says otherwise."""
        sampler = shuffling(loader)
        if sampler is None or sampler in self._told:
            return
        last = self._last.get(sampler)
        if last is not None and self._goes_on(last, loader):
            return
        if last is not None and self._updates > last.updates and last.order == order(sampler):
            self._telling = True
            try:
                sampler.set_epoch(sampler.epoch + 1)
            finally:
                self._telling = False
            self._one.effects += 1
        self._last[sampler] = _Pass(order(sampler), self._updates)

    def began(self, loader: Any, passing: Any) -> None:
        """Remember the iterator of the pass that has begun."""
        sampler = shuffling(loader)
        last = None if sampler is None else self._last.get(sampler)
        if last is not None and last.passing is None:
            last.passing = weakref.ref(passing)
            self._over.discard(passing)

    def over(self, passing: Any) -> None:
        self._over.add(passing)

    def updated(self, *_: Any) -> None:
        self._updates += 1

    def told(self, sampler: Any) -> None:
        """Leave a sampler to the script, which calls `set_epoch` itself."""
        if not self._telling:
            self._told.add(sampler)
            self._one.note("the script calls set_epoch() itself")

    def _goes_on(self, last: _Pass, loader: Any) -> bool:
        passing = None if last.passing is None else last.passing()
        kept = vars(loader).get("_iterator")  # begins anew, whatever it did
        return passing is not None and passing is not kept and passing not in self._over


def apply(process: Process, one: Applied) -> None:
    """Call `set_epoch` with the number of the pass, before each pass but the first."""
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from torch.utils.data import DataLoader, DistributedSampler

    found = Epochs(one)
    begins = process.fence.guard(f"remedy {one.name}: pass", found.begins)
    began = process.fence.guard(f"remedy {one.name}: pass", found.began)
    told = process.fence.guard(f"remedy {one.name}: told", found.told)
    iterate, tell = DataLoader.__iter__, DistributedSampler.set_epoch

    @functools.wraps(iterate)
    def __iter__(loader: Any) -> Any:  # noqa: N807 - its name in DataLoader
        begins(loader)
        passing = iterate(loader)
        began(loader, passing)
        return passing

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
    process.patches.hook(
        register_optimizer_step_post_hook(found.updated),
        "torch.optim.Optimizer",
        reason=f"{one.name}: count updates",
    )
    _see_the_end(process, one, found)


def _see_the_end(process: Process, one: Applied, found: Epochs) -> None:
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    following = _BaseDataLoaderIter.__next__

    @functools.wraps(following)
    def __next__(passing: Any) -> Any:  # noqa: N807 - its name in the iterator
        try:
            return following(passing)
        except StopIteration:
            found.over(passing)
            raise

    process.patches.replace(
        _BaseDataLoaderIter, "__next__", __next__, reason=f"{one.name}: see where passes end"
    )
