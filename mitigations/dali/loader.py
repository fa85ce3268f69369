"""A pass over the script's own loader, whose images DALI makes.

Indices come from the loader's own sampler, labels from its data set, batches have the structure
that `default_collate` gives. What DALI cannot make as torchvision would, the data set makes:
single samples, or a whole batch after an error.
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from speedprof.mitigations.dali.batches import Batch
from speedprof.mitigations.dali.datasets import Files
from speedprof.mitigations.dali.engine import Engine, first_line
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
    again: int  # passes before this one that had the same seed
    note: Callable[[str], None]
    give_up: Callable[[], None]  # for the passes to come


@dataclass
class Begun:
    """A batch that was asked for."""

    indices: list[Any]
    asked: list[Any]  # what the data set's reader remembers of each
    batch: Batch


def cancel(begun: Iterable[Begun]) -> None:
    """Make nothing more of what was asked for."""
    for one in begun:
        one.batch.cancelled = True


@functools.cache
def pass_class() -> Any:
    """Return the iterator's class; a function, since torch is imported late."""
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    class DaliPass(_BaseDataLoaderIter):  # type: ignore[misc]
        """One pass: torch's own iterator, but for where the next batch comes from."""

        def __init__(self, loader: Any, making: Making) -> None:
            super().__init__(loader)
            self._supply = Supply(making, own_fetcher(loader), self._base_seed + making.again)
            self._on_gpu = making.engine.recipe.gpu is not None
            weakref.finalize(self, cancel, self._supply.begun)

        def _next_data(self) -> Any:
            made = self._supply.take(self._next_index)
            if not self._pin_memory or self._on_gpu:  # what is on a GPU cannot be pinned
                return made
            from torch.utils.data import _utils

            return _utils.pin_memory.pin_memory(made, self._pin_memory_device)

    return DaliPass


class Kept:
    """Keeps an error of the script's own code for the batch at which it would have come."""

    error: Exception | None = None

    @property
    def sentence(self) -> str | None:
        return None if self.error is None else first_line(self.error)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):  # KeyboardInterrupt comes at once
            return False
        ended = isinstance(error, StopIteration)  # by no error; its frames would hold the pass
        self.error = error.with_traceback(None) if ended else error
        return True


class Supply:
    """The batches of one pass, in the sampler's order."""

    def __init__(self, making: Making, own: Any, seed: int) -> None:
        self._making = making
        self._own = own  # torch's fetcher: makes a batch as a loader without workers does
        self._seed = seed
        self.begun: deque[Begun] = deque()
        self._count = 0
        self._end: Exception | None = None  # what the sampler raised in place of indices
        self._failures = 0
        self._given_up = False
        self._compared = False

    def take(self, next_index: Callable[[], Any]) -> Any:
        """Return the next batch.

        Raises what the sampler raises, StopIteration at its end, and what the data set raises.
        """
        self._begin(next_index)
        if not self.begun and self._end is not None:
            end, self._end = self._end, None
            raise end
        begun = self.begun.popleft()
        self._making.engine.wait(begun.batch)
        self._weigh(begun.batch.images)
        self._begin(next_index)  # while the training is at this one
        return self._made(begun)

    def _begin(self, next_index: Callable[[], Any]) -> None:
        """Ask for as many batches ahead as there may be."""
        while len(self.begun) < self._ahead() and self._end is None:
            indices: list[Any] = []
            asking = Kept()
            with asking:
                indices = list(next_index())
            self._end = asking.error
            if self._end is None:
                self.begun.append(self._asked(indices))

    def _asked(self, indices: list[Any]) -> Begun:
        """Return a batch that is being made; where its samples are not found, by the data set."""
        self._count += 1
        data, asked = self._making.data, []
        looking = Kept()
        with looking:
            asked = [data.ask(index) for index in indices]
        seed = seed_of(self._seed, self._count)
        batch = Batch([sample for sample, _ in asked], seed, data.read)
        why = "DALI was given up" if self._given_up else looking.sentence
        if why is None:
            self._making.engine.submit(batch)
        else:
            batch.fail(why)
            batch.done.set()
        return Begun(indices, [rest for _, rest in asked], batch)

    def _ahead(self) -> int:
        """Return how many batches may be begun; fewer where so many would take too much memory.

        Of the first pass's first batches the size is not known: each lane begins one.
        """
        most, engine = self._making.ahead, self._making.engine
        if not engine.largest:
            return max(most // 2, 1)
        return min(most, max(engine.room // engine.largest, 1))

    def _weigh(self, images: Any) -> None:
        if images is not None:
            engine = self._making.engine
            engine.largest = max(engine.largest, images.numel() * images.element_size())

    def _made(self, begun: Begun) -> Any:
        batch = begun.batch
        all_odd = len(batch.odd) == len(begun.indices)
        if batch.images is None and (batch.failure or not all_odd):
            self._failed(batch.failure or "there are no images", most=MOST_FAILURES)
            return self._making.data.fetch(self._own, begun.indices)
        self._failures = 0
        for why in batch.odd.values():
            self._making.note(f"files opened by the script's own data set: {why}")
        if all_odd:
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
        images = _merged(
            _lent(batch.images), {place: data.image(one) for place, one in own.items()}
        )
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
        wanted = tuple(image.shape), image.dtype
    except (AttributeError, IndexError, KeyError, TypeError):
        return "the data set's own sample has no image there"
    images = begun.batch.images
    found = tuple(images.shape[1:]), images.dtype
    if found == wanted:
        return None
    return f"DALI gives {found[0]} of {found[1]}, the data set {wanted[0]} of {wanted[1]}"


def _lent(images: Any) -> Any:
    """Keep the memory of images on a GPU from another batch until the training is through."""
    import torch

    if images.is_cuda:  # copied there in a stream of its own
        images.record_stream(torch.cuda.current_stream(images.device))
    return images


def _merged(images: Any, own: dict[int, Any]) -> Any:
    """Return the batch with the images that the data set made, each at its place."""
    import torch

    if not own:
        return images
    rows = list(images)
    for place in sorted(own):
        rows.insert(place, own[place].to(images.device))
    return torch.stack(rows)
