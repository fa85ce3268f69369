"""Threads that make batches ahead of the training: each reads, draws and runs a pipeline."""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speedprof.mitigations.dali.headers import Odd, look
from speedprof.mitigations.dali.pipeline import Images, Recipe, arguments, seed_of
from speedprof.mitigations.dali.shrinking import factors, opened, possible, within
from speedprof.mitigations.dali.steps import Arguments

NAME = "speedprof-dali"  # of the threads
ENDED = "the threads that run DALI have ended"
PATIENCE_S = 5.0  # for a thread to end
LOOK_AGAIN_S = 1.0  # whether the threads still live
PLACEHOLDER = (1, 1)  # the size of what DALI does not decode


@dataclass(eq=False)
class Batch:
    """A batch to be made, and what came of it."""

    paths: list[str]
    seed: int
    done: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False
    images: Any = None  # of the samples that DALI made, in order; None: none
    odd: dict[int, str] = field(default_factory=dict)  # place in the batch: why it is not DALI's
    failure: str | None = None  # why the whole batch is the script's

    def fail(self, why: str) -> None:
        self.images, self.failure = None, why


class Engine:
    """The lanes of one loader. Batches are begun in the order in which they are given."""

    def __init__(self, recipe: Recipe, lanes: int, guard: Callable[..., Any]) -> None:
        """Build a pipeline for each lane; raises what DALI raises."""
        self.recipe = recipe
        self._owner = os.getpid()
        self._closed = False
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        work = guard("remedy dali-loading: make a batch", self._work)
        self._lanes = [
            threading.Thread(target=work, args=(Lane(recipe),), name=NAME, daemon=True)
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
        for lane in self._lanes:
            if lane is not threading.current_thread():
                lane.join(PATIENCE_S)

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

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._build()

    def _build(self) -> None:
        shrunk = dataclasses.replace(self._recipe, decoded=True)
        self._of_files = Images(self._recipe)
        self._of_pixels = Images(shrunk) if shrunk.shrink and possible(shrunk.chain) else None

    def make(self, batch: Batch) -> None:
        """Make what DALI can of a batch, and remember why not the rest."""
        files, sizes, good = _read(batch)
        chain = self._recipe.chain
        try:
            given = arguments(chain, sizes, batch.seed)
            few = factors(chain, files, sizes, given) if self._of_pixels else [1] * len(files)
            whole = [place for place in good if few[place] == 1]
            small = [place for place in good if few[place] > 1]
            made = [
                (whole, self._whole([files[p] for p in whole], _of(given, whole))),
                (small, self._small([(files[p], few[p], sizes[p]) for p in small], given, small)),
            ]
        except ValueError as error:
            batch.fail(first_line(error))
            return
        except (RuntimeError, IndexError, OSError, SyntaxError) as error:
            batch.fail(first_line(error))
            self._build()  # a pipeline is spent after an error
            return
        parts = [(places, images) for places, images in made if places]
        if any(images is None for _places, images in parts):
            batch.fail("the images of one batch differ in size")
        elif parts:
            batch.images = _joined(parts)

    def _whole(self, files: list[Any], given: Arguments) -> Any:
        return self._of_files.make(files, given) if files else None

    def _small(self, files: list[Any], given: Arguments, places: list[int]) -> Any:
        import torch

        if not files or self._of_pixels is None:
            return None
        pixels = [opened(data, factor) for data, factor, _size in files]
        before = torch.tensor([size for _data, _factor, size in files])
        after = torch.tensor([image.shape[:2] for image in pixels])
        return self._of_pixels.make(pixels, within(_of(given, places), before, after))


def _of(given: Arguments, places: list[int]) -> Arguments:
    return {name: value[places] for name, value in given.items()}


def _joined(parts: list[tuple[list[int], Any]]) -> Any:
    """Return the images of all parts in the order of their places."""
    import torch

    if len(parts) == 1:
        return parts[0][1]
    places = torch.tensor([place for part, _images in parts for place in part])
    return torch.cat([images for _part, images in parts])[places.argsort()]


def _read(batch: Batch) -> tuple[list[Any], list[tuple[int, int]], list[int]]:
    """Return bytes and sizes of all files, and the places of those that DALI decodes."""
    import numpy as np

    files, sizes, good = [], [], []
    for place, path in enumerate(batch.paths):
        try:
            with open(path, "rb") as file:
                data = file.read()
            found = look(data)
        except (OSError, IndexError) as error:
            data, found = b"", Odd(type(error).__name__)
        files.append(np.frombuffer(data, dtype=np.uint8))
        if isinstance(found, Odd):
            batch.odd[place] = found.why
            sizes.append(PLACEHOLDER)
            continue
        good.append(place)
        sizes.append((found.height, found.width))
    return files, sizes, good


def first_line(error: Exception) -> str:
    """Return what an error of DALI says first; it goes on with its own stack."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def batch_of(paths: list[str], epoch: int, number: int) -> Batch:
    return Batch(paths, seed_of(epoch, number))
