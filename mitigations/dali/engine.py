"""Threads that make batches ahead of the training: each reads, draws and runs a pipeline."""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from typing import Any

from speedprof.mitigations.dali.batches import Batch, Read
from speedprof.mitigations.dali.costs import Ledger, Meter
from speedprof.mitigations.dali.memory import give_back, portions, weights
from speedprof.mitigations.dali.pipeline import PIXELS, SHRUNK, Images, Recipe, arguments
from speedprof.mitigations.dali.shrinking import factors, opened, possible, within
from speedprof.mitigations.dali.steps import Arguments

Part = tuple[list[int], Any]  # places in a batch, and their images
NAME = "speedprof-dali"  # of the threads
ENDED = "the threads that run DALI have ended"
PATIENCE_S = 5.0  # for a thread to end
LOOK_AGAIN_S = 1.0  # whether the threads still live
ALL = 1 << 62  # bytes: no limit


class Engine:
    """The lanes of one loader. Batches are begun in the order in which they are given."""

    def __init__(
        self,
        recipe: Recipe,
        lanes: int,
        guard: Callable[..., Any],
        *,
        readers: int = 1,
        room: int = ALL,
        ledger: Ledger | None = None,
    ) -> None:
        """Build a pipeline for each lane; raises what DALI raises.

        `readers` threads run data sets that open their samples themselves. What is being made at
        a time takes `room` bytes, and no less than an image of each lane.
        """
        self.recipe = recipe
        self.ledger = ledger
        self.room = room
        self.largest = 0  # bytes of the images of a batch, so far
        self._owner = os.getpid()
        self._closed = False
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix=NAME)  # none before its use
        work = guard("remedy dali-loading: make a batch", self._work)
        self._lanes = [
            threading.Thread(
                target=work,
                args=(Lane(recipe, self._pool, ledger, room // lanes),),
                name=NAME,
                daemon=True,
            )
            for _ in range(lanes)
        ]
        for lane in self._lanes:
            lane.start()

    @property
    def alive(self) -> bool:
        return self._owner == os.getpid() and any(lane.is_alive() for lane in self._lanes)

    def submit(self, batch: Batch) -> None:
        if self._closed:
            batch.fail(ENDED)
            batch.done.set()
        self._waiting.put(batch)

    def wait(self, batch: Batch) -> None:
        """Return once the batch is made; without lanes it has failed."""
        while not batch.done.wait(LOOK_AGAIN_S):
            if not self.alive:
                batch.fail(ENDED)
                return

    def close(self) -> None:
        """End the lanes; what they are making is finished first, the rest is not begun."""
        self._closed = True
        if self._owner != os.getpid():
            return
        for _ in self._lanes:
            self._waiting.put(None)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for thread in (*self._lanes, *self._pool._threads):
            if thread is not threading.current_thread():
                thread.join(PATIENCE_S)
        if self.ledger is not None:
            self.ledger.flush()

    def _work(self, lane: Lane) -> None:
        while (batch := self._waiting.get()) is not None:
            if batch.cancelled:  # by the end of its pass
                continue
            try:
                if self._closed:
                    batch.fail(ENDED)
                else:
                    lane.make(batch)
            finally:
                batch.done.set()


class Lane:
    """The pipelines of one thread: of files, and of images that were shrunk while decoding."""

    def __init__(
        self,
        recipe: Recipe,
        pool: Executor | None = None,
        ledger: Ledger | None = None,
        room: int = ALL,
    ) -> None:
        self._recipe, self._pool, self._ledger, self._room = recipe, pool, ledger, room
        self._build()

    def _build(self) -> None:
        recipe = self._recipe
        shrinks = recipe.shrink and recipe.source != PIXELS and possible(recipe.chain)
        self._of_all = Images(recipe)
        self._of_shrunk = Images(dataclasses.replace(recipe, source=SHRUNK)) if shrinks else None

    def make(self, batch: Batch) -> None:
        """Make what DALI can of a batch, and remember why not the rest."""
        meter = None if self._ledger is None else Meter(self._threads())
        try:
            read = batch.read(batch, self._pool)
        except (RuntimeError, CancelledError, MemoryError) as error:  # or the readers have ended
            batch.fail(first_line(error))
            return
        if read.good:
            read.fill()
            self._transform(batch, read)
        if meter is not None and self._ledger is not None:
            self._ledger.made(len(batch.samples), *meter.read(), read)

    def _transform(self, batch: Batch, read: Read) -> None:
        try:
            given = arguments(self._recipe.chain, read.sizes, batch.seed)
            parts = list(self._parts(read, given))
        except ValueError as error:
            batch.fail(first_line(error))
            return
        except (RuntimeError, IndexError, OSError, SyntaxError, MemoryError) as error:
            batch.fail(first_line(error))
            self._build()  # a pipeline is spent after an error
            return
        shapes = {None if images is None else images.shape[1:] for _places, images in parts}
        if None in shapes or len(shapes) > 1:
            batch.fail("the images of one batch differ in size")
        else:
            batch.images = _joined(parts)

    def _parts(self, read: Read, given: Arguments) -> Iterator[Part]:
        """Make the images part by part: each takes no more memory than there is room for."""
        few = self._factors(read, given)
        each = weights(self._recipe.chain, read.sizes, few)
        for make, places in (
            (self._whole, [place for place in read.good if few[place] == 1]),
            (self._small, [place for place in read.good if few[place] > 1]),
        ):
            for part in portions(places, each, most=self._recipe.most, fits=self._room):
                yield part, make(read, few, given, part)
                if len(part) < len(places):  # room is scarce
                    give_back()

    def _threads(self) -> set[int]:
        return self._of_all.threads | (self._of_shrunk.threads if self._of_shrunk else set())

    def _factors(self, read: Read, given: Arguments) -> list[int]:
        if self._of_shrunk is None:
            return [1] * len(read.inputs)
        return factors(self._recipe.chain, read.inputs, read.sizes, given)

    def _whole(self, read: Read, _few: list[int], given: Arguments, places: list[int]) -> Any:
        return self._of_all.make([read.input(place) for place in places], _of(given, places))

    def _small(self, read: Read, few: list[int], given: Arguments, places: list[int]) -> Any:
        import torch

        assert self._of_shrunk is not None
        pixels = [opened(read.input(place), few[place]) for place in places]
        before = torch.tensor([read.sizes[place] for place in places])
        after = torch.tensor([image.shape[:2] for image in pixels])
        return self._of_shrunk.make(pixels, within(_of(given, places), before, after))


def _of(given: Arguments, places: list[int]) -> Arguments:
    return {name: value[places] for name, value in given.items()}


def _joined(parts: list[Part]) -> Any:
    """Return the images of all parts in the order of their places."""
    import torch

    if len(parts) == 1:
        return parts[0][1]
    places = [place for part, _images in parts for place in part]
    images = torch.cat([images for _part, images in parts])
    images = images if places == sorted(places) else images[torch.tensor(places).argsort()]
    if images.is_cuda:  # in this thread's stream; the training's may be another
        torch.cuda.synchronize(images.device)
    return images


def first_line(error: Exception) -> str:
    """Return what an error of DALI says first; it goes on with its own stack."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
