"""A batch on its way: what was asked for, who reads it, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from speedprof.mitigations.dali.headers import Odd, look
from speedprof.mitigations.dali.memory import MOST_ENCODED
from speedprof.mitigations.dali.pipeline import seed_of
from speedprof.mitigations.dali.threads import Spent, spent

PLACEHOLDER = (1, 1)  # the size of what DALI does not open, until others are known
BEGINNING = 16  # bytes of a file, which tell what it is


@dataclass
class Read:
    """What DALI is given: bytes of files or pixels, and the height and width of each image."""

    inputs: list[Any] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    good: list[int] = field(default_factory=list)  # places in the batch of what DALI can make
    again: dict[int, str] = field(default_factory=dict)  # paths of files that are to be read again
    by_others: Spent = field(default_factory=Spent)  # of threads other than the lane's
    waited_ns: int = 0  # for storage
    read_bytes: int = -1  # -1: unknown

    def add(self, place: int, data: Any, size: tuple[int, int] | None) -> None:
        self.inputs.append(data)
        self.sizes.append(size or PLACEHOLDER)
        if size is not None:
            self.good.append(place)

    def fill(self) -> None:
        """Give what DALI does not open the size of something that it opens.

        Random parameters are drawn for all, and of too small an image no crop can be drawn.
        """
        opened = set(self.good)
        for place in range(len(self.sizes)):
            if place not in opened:
                self.sizes[place] = self.sizes[self.good[0]]

    def input(self, place: int) -> Any:
        """Return what DALI is given of one sample; raises OSError where its file is gone."""
        import numpy as np

        data = contents(self.again[place]) if place in self.again else self.inputs[place]
        return np.frombuffer(data, dtype=np.uint8) if isinstance(data, bytes) else data


@dataclass(eq=False)
class Batch:
    """A batch to be made, and what came of it."""

    samples: list[Any]  # paths, or indices of a data set that opens its samples itself
    seed: int
    read: Callable[[Batch, Executor | None], Read]
    done: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False
    images: Any = None  # of the samples that DALI made, in order; None: none
    rest: dict[int, Any] = field(default_factory=dict)  # samples, but for their images
    odd: dict[int, str] = field(default_factory=dict)  # place in the batch: why it is not DALI's
    failure: str | None = None  # why the whole batch is the script's

    def fail(self, why: str) -> None:
        self.images, self.failure = None, why


def read_files(batch: Batch, _pool: Executor | None = None) -> Read:
    """Return bytes and sizes of all files; those that DALI would open otherwise are odd.

    Beyond `MOST_ENCODED` bytes of them nothing but the beginning of a file is kept.
    """
    read, before = Read(read_bytes=0), spent()
    held = 0
    for place, path in enumerate(batch.samples):
        try:
            data = contents(path)
            found = look(data)
        except (OSError, IndexError) as error:
            data, found = b"", Odd(type(error).__name__)
        read.read_bytes += len(data)
        if isinstance(found, Odd):
            batch.odd[place] = found.why
            read.add(place, b"", None)
            continue
        held += len(data)
        if held > MOST_ENCODED:
            read.again[place] = path
            data = data[:BEGINNING]
        read.add(place, data, (found.height, found.width))
    read.waited_ns = (spent() - before).waited_ns
    return read


def contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def batch_of(paths: list[str], epoch: int, number: int) -> Batch:
    """Return a batch of files."""
    return Batch(paths, seed_of(epoch, number), read_files)
