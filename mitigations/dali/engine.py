"""Threads that make batches ahead of the training: each reads, draws and runs a pipeline."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speedprof.mitigations.dali.headers import Odd, look
from speedprof.mitigations.dali.pipeline import Images, Recipe, arguments, seed_of

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
            threading.Thread(target=work, args=(Images(recipe),), name=NAME, daemon=True)
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

    def _work(self, images: Images) -> None:
        while (batch := self._waiting.get()) is not None:
            if batch.cancelled:  # by the end of its pass
                continue
            try:
                if self._closed:
                    batch.fail(ENDED)
                else:
                    images = _make(images, batch)
            finally:
                batch.done.set()


def _make(images: Images, batch: Batch) -> Images:
    """Make a batch; return the pipeline for the next one, a new one where this one is spent."""
    recipe = images.recipe
    files, sizes, good = _read(batch)
    try:
        given = arguments(recipe.chain, sizes, batch.seed)
    except ValueError as error:
        batch.fail(str(error))
        return images
    if not good:
        return images
    if len(good) < len(files):
        files = [files[place] for place in good]
        given = {name: value[good] for name, value in given.items()}
    try:
        batch.images = images.make(files, given)
    except (RuntimeError, IndexError) as error:
        batch.fail(first_line(error))
        return Images(recipe)
    if batch.images is None:
        batch.fail("the images of one batch differ in size")
    return images


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
