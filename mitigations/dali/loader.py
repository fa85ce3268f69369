"""A pass over the script's own loader, whose images DALI makes.

Indices come from the loader's own sampler, labels from its data set, batches have the structure
that `default_collate` gives. What DALI cannot make as torchvision would, the data set makes:
single samples, or a whole batch after an error.
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.dali.batches import Batch
from speedprof.mitigations.dali.datasets import Files
from speedprof.mitigations.dali.engine import Engine
from speedprof.mitigations.dali.pipeline import seed_of
from speedprof.mitigations.dali.proxies import Own
from speedprof.mitigations.dali.randomness import drawing_unseen
from speedprof.mitigations.dali.threads import spent

MOST_FAILURES = 3  # batches one after the other; then DALI is given up for this loader


@dataclass(frozen=True)
class Making:
    """How the images of one loader are made."""

    engine: Engine
    data: Files | Own
    ahead: int  # batches in the making or waiting for the training
    note: Callable[[str], None]
    give_up: Callable[[], None]  # for the passes to come


@dataclass
class Begun:
    """A batch that was asked for."""

    indices: list[Any]
    asked: list[Any]  # what the data set's reader remembers of each
    batch: Batch


@functools.cache
def pass_class() -> Any:
    """Return the iterator's class; a function, since torch is imported late."""
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    class DaliPass(_BaseDataLoaderIter):  # type: ignore[misc]
        """One pass: torch's own iterator, but for where the next batch comes from."""

        def __init__(self, loader: Any, making: Making) -> None:
            super().__init__(loader)
            self._supply = Supply(making, own_fetcher(loader), self._base_seed)
            weakref.finalize(self, self._supply.cancel)

        def _next_data(self) -> Any:
            made = self._supply.take(self._next_index)
            if not self._pin_memory:
                return made
            from torch.utils.data import _utils

            return _utils.pin_memory.pin_memory(made, self._pin_memory_device)

    return DaliPass


class Supply:
    """The batches of one pass, in the sampler's order."""

    def __init__(self, making: Making, own: Any, seed: int) -> None:
        self._making = making
        self._own = own  # torch's fetcher: makes a batch as a loader without workers does
        self._seed = seed
        self._begun: deque[Begun] = deque()
        self._count = 0
        self._exhausted = False
        self._failures = 0
        self._given_up = False
        self._compared = False

    def take(self, next_index: Callable[[], Any]) -> Any:
        """Return the next batch; raises StopIteration at the end, and what the data set raises."""
        self._begin(next_index)
        if not self._begun:
            raise StopIteration
        begun = self._begun.popleft()
        self._making.engine.wait(begun.batch)
        self._begin(next_index)  # while the training is at this one
        return self._made(begun)

    def cancel(self) -> None:
        """Make nothing more of what was asked for."""
        for begun in self._begun:
            begun.batch.cancelled = True

    def _begin(self, next_index: Callable[[], Any]) -> None:
        """Ask for as many batches ahead as there may be."""
        while not self._exhausted and len(self._begun) < self._making.ahead:
            try:
                indices = list(next_index())
            except StopIteration:
                self._exhausted = True
                return
            self._count += 1
            data = self._making.data
            asked = [data.ask(index) for index in indices]
            seed = seed_of(self._seed, self._count)
            batch = Batch([sample for sample, _ in asked], seed, data.read)
            self._begun.append(Begun(indices, [rest for _, rest in asked], batch))
            if self._given_up:
                batch.fail("DALI was given up")
                batch.done.set()
            else:
                self._making.engine.submit(batch)

    def _made(self, begun: Begun) -> Any:
        batch = begun.batch
        if batch.images is None and (batch.failure or not batch.odd):
            self._failed(batch.failure or "there are no images", most=MOST_FAILURES)
            return self._making.data.fetch(self._own, begun.indices)
        self._failures = 0
        for why in batch.odd.values():
            self._making.note(f"files opened by the script's own data set: {why}")
        if len(batch.odd) == len(begun.indices):
            return self._making.data.fetch(self._own, begun.indices)
        if not self._compared:
            self._compared = True
            if (apart := difference(self._making.data, begun)) is not None:
                self._failed(apart, most=1)
                return self._making.data.fetch(self._own, begun.indices)
        return self._collated(begun)

    def _collated(self, begun: Begun) -> Any:
        data, batch, ledger = self._making.data, begun.batch, self._making.engine.ledger
        own = {place: data.sample(begun.indices[place]) for place in sorted(batch.odd)}
        before = spent()
        images = _merged(batch.images, {place: data.image(one) for place, one in own.items()})
        made = data.collate(images, begun.asked, batch, own)
        if ledger is not None:
            ledger.collated(spent() - before)
        return made

    def _failed(self, why: str, *, most: int) -> None:
        """Remember a batch that DALI did not make; after so many it is given up."""
        self._failures += 1
        if self._given_up:
            return
        self._making.note(f"a batch is made by the script's own data set: {why}")
        if self._failures >= most:
            self._given_up = True
            self._making.give_up()


def own_fetcher(loader: Any) -> Any:
    from torch.utils.data import _utils

    fetcher = _utils.fetch._MapDatasetFetcher
    return fetcher(loader.dataset, True, loader.collate_fn, loader.drop_last)


def difference(data: Files | Own, begun: Begun) -> str | None:
    """Return how the images differ in shape or type from what the script would get."""
    place = next(p for p in range(len(begun.indices)) if p not in begun.batch.odd)
    with drawing_unseen():
        sample = data.sample(begun.indices[place])
    try:
        image = data.image(sample)
    except (IndexError, KeyError, TypeError):
        return "the data set's own sample has no image there"
    images = begun.batch.images
    found, wanted = (tuple(images.shape[1:]), images.dtype), (tuple(image.shape), image.dtype)
    if found == wanted:
        return None
    return f"DALI gives {found[0]} of {found[1]}, the data set {wanted[0]} of {wanted[1]}"


def _merged(images: Any, own: dict[int, Any]) -> Any:
    """Return the batch with the images that the data set made, each at its place."""
    import torch

    if not own:
        return images
    rows = list(images)
    for place in sorted(own):
        rows.insert(place, own[place].to(images.device))
    return torch.stack(rows)
