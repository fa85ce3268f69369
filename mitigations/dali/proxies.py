"""A data set that opens its samples itself: its own code runs without its transform, DALI's after.

The data set is copied (its attributes are shared), and in the copy something that hands images on
as they are stands in the transform's place. Whatever the copy returns around that image stays as
it is.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.dali import nests
from speedprof.mitigations.dali.batches import Batch, Read
from speedprof.mitigations.dali.datasets import leaves, located
from speedprof.mitigations.dali.pipeline import PIXELS
from speedprof.mitigations.dali.plain import holds_values_only
from speedprof.mitigations.dali.randomness import drawing_unseen, generators_used
from speedprof.mitigations.dali.stage import RefusedError
from speedprof.mitigations.dali.threads import Spent, spent
from speedprof.mitigations.dali.translation import is_transform

CHANNELS = {"RGB": 3, "L": 1}
JOINT = "its transforms take image and target together"
AT_ONCE, ONE_BY_ONE = "several at a time", "one at a time"


class StrangeError(Exception):
    """A sample is not as the first one was; the text says how."""


class Passing:
    """Stands in for a transform: returns the image, and remembers it for its thread."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def __call__(self, image: Any, *others: Any) -> Any:
        if others:
            raise StrangeError(JOINT)
        self._of_thread.seen.append(image)
        return image

    @contextmanager
    def watching(self) -> Iterator[list[Any]]:
        """Yield a list that the images of this thread come into."""
        self._of_thread.seen = []
        yield self._of_thread.seen
        self._of_thread.seen = []


@dataclass(frozen=True)
class Twin:
    """A data set's copy, and what stands in its transform's place."""

    dataset: Any
    passing: Passing
    transform: Any


@dataclass(frozen=True)
class Known:
    """What a sample of the loader is like."""

    path: nests.Path  # to the image
    channels: int
    at_once: bool  # the data set holds nothing that threads could not share
    image_bytes: int = 0  # of the first, as pixels


class Own:
    """A loader's data set that opens its samples itself."""

    source = PIXELS

    def __init__(self, dataset: Any) -> None:
        """Copy the data set; raises RefusedError where its transform cannot be put aside."""
        self.dataset = dataset
        self._twins = {id(leaf): _twin(leaf) for leaf in leaves(dataset)}
        self.transforms = tuple(twin.transform for twin in self._twins.values())
        self.use(Known((), 3, at_once=False))

    def use(self, known: Known) -> None:
        self.known, self.channels = known, known.channels
        self._lock: AbstractContextManager[Any] = (
            nullcontext() if known.at_once else threading.Lock()
        )

    @property
    def told(self) -> str:
        how = AT_ONCE if self.known.at_once else ONE_BY_ONE
        return f"samples opened by the data set's own code, {how}; "

    def ask(self, index: Any) -> tuple[Any, Any]:
        return index, None

    def fetch(self, own: Any, indices: list[Any]) -> Any:
        with self._lock:
            return own.fetch(indices)

    def sample(self, index: Any) -> Any:
        with self._lock:
            return self.dataset[index]

    def image(self, sample: Any) -> Any:
        return nests.at(sample, self.known.path)

    def read(self, batch: Batch, pool: Executor | None) -> Read:
        """Open the samples of a batch, in the pool's threads."""
        assert pool is not None
        read = Read()
        opening = [pool.submit(self._opened, index) for index in batch.samples]
        for place, one in enumerate(opening):
            error = one.exception()
            if error is not None:
                batch.odd[place] = _why(error)
                read.add(place, None, None)
                continue
            pixels, sample, cost = one.result()
            batch.rest[place] = sample
            read.add(place, pixels, pixels.shape[:2])
            read.by_others += cost
            read.waited_ns += cost.waited_ns
        return read

    def collate(self, images: Any, asked: list[Any], batch: Batch, own: dict[int, Any]) -> Any:
        from torch.utils.data import default_collate

        path = self.known.path
        samples = [
            nests.put(own[place], path, 0) if place in own else batch.rest[place]
            for place in range(len(asked))
        ]
        return nests.put(default_collate(samples), path, images)

    def _opened(self, index: Any) -> tuple[Any, Any, Spent]:
        """Return pixels, the rest of the sample, and what that cost."""
        before = spent()
        with self._lock:
            image, sample, path = self._passed(index)
            pixels = _pixels(image, self.channels)
        if path != self.known.path:
            raise StrangeError("its image is elsewhere in the sample than in the first")
        return pixels, nests.put(sample, path, 0), spent() - before

    def _passed(self, index: Any) -> tuple[Any, Any, nests.Path]:
        """Return image and sample as the data set makes them without its transform."""
        leaf, at = located(self.dataset, index)
        twin = self._twins[id(leaf)]
        with twin.passing.watching() as seen:
            sample = twin.dataset[at]
            images = list(seen)
        if len(images) != 1:
            raise StrangeError(f"its transform is called {len(images)} times for one sample")
        path = nests.find(sample, images[0])
        if path is None:
            raise StrangeError("what its transform returns is changed before it is a sample")
        return images[0], sample, path

    @contextmanager
    def _lent_copies(self) -> Iterator[Callable[[], bool]]:
        """Lend the twins copies of lists, dicts and sets, so that the script's own stay as is.

        Yields a function that tells whether something was put into them.
        """
        held = [(vars(twin.dataset), _containers(twin.dataset)) for twin in self._twins.values()]
        sizes = []
        for attributes, containers in held:
            attributes |= {name: copy.copy(one) for name, one in containers.items()}
            sizes.append({name: len(one) for name, one in containers.items()})

        def grown() -> bool:
            return any(
                len(attributes[name]) != size
                for (attributes, _), known in zip(held, sizes, strict=True)
                for name, size in known.items()
            )

        try:
            yield grown
        finally:
            for attributes, containers in held:
                attributes.update(containers)

    def look(self) -> Known:
        """Learn what samples are like from the first; generators and attributes stay as they are.

        Raises RefusedError where DALI cannot do the transform apart from the data set's own code,
        which runs in a future's place, so that its errors are values.
        """
        with drawing_unseen() as drew, self._lent_copies() as grown:
            (image, _sample, path), used = _attempted(generators_used, self._passed, 0)
            drawn, keeps = used or drew(), grown()
        if drawn:
            raise RefusedError("its own code draws random numbers")
        if keeps:
            raise RefusedError("it keeps samples that it has made")
        mode = getattr(image, "mode", None)
        if mode not in CHANNELS:
            what = f"PIL images of mode {mode}" if mode else type(image).__name__
            raise RefusedError(f"its transform is given {what}, not RGB or L images of PIL's")
        at_once = all(holds_values_only(twin.dataset) for twin in self._twins.values())
        return Known(path, CHANNELS[mode], at_once, _pixels(image, CHANNELS[mode]).nbytes)


def _twin(leaf: Any) -> Twin:
    if hasattr(type(leaf), "__getitems__"):
        raise RefusedError("it makes several samples in one call")
    attributes = _attributes(leaf)
    if any(_generates(value) for value in attributes.values()):
        raise RefusedError("it draws from a generator of its own")
    names = [
        name
        for name, value in attributes.items()
        if name != "target_transform" and is_transform(value)
    ]
    if len(names) != 1:
        found = "no transform" if not names else f"several transforms ({', '.join(names)})"
        raise RefusedError(f"it has {found} of torchvision's")
    name, passing = names[0], Passing()
    transform = getattr(leaf, name)
    twin = _attempted(copy.copy, leaf)
    setattr(twin, name, passing)
    joint: Any = getattr(leaf, "transforms", None)
    if type(joint).__name__ == "StandardTransform":
        twin.transforms = type(joint)(passing, joint.target_transform)
    elif joint is not None and name != "transforms":
        raise RefusedError(JOINT)
    return Twin(twin, passing, transform)


def _attributes(leaf: Any) -> dict[str, Any]:
    return dict(getattr(leaf, "__dict__", {}))


def _generates(value: object) -> bool:
    """Tell whether a value is a generator of random numbers."""
    import torch

    drawing = type(value).__module__.startswith("numpy.random")
    return drawing or isinstance(value, (torch.Generator, random.Random))


def _containers(dataset: Any) -> dict[str, Any]:
    kinds = (dict, list, set)
    return {name: one for name, one in _attributes(dataset).items() if isinstance(one, kinds)}


def _attempted(action: Any, *arguments: Any) -> Any:
    """Return what the script's own code returns; its errors are refusals."""
    with ThreadPoolExecutor(1) as pool:
        future: Future[Any] = pool.submit(action, *arguments)
    error = future.exception()
    if isinstance(error, StrangeError):
        raise RefusedError(str(error))
    if error is not None:
        raise RefusedError(f"without its transform it raises {_named(error)}")
    return future.result()


def _named(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:100]}" if lines else type(error).__name__


def _why(error: BaseException) -> str:
    return str(error) if isinstance(error, StrangeError) else type(error).__name__


def _pixels(image: Any, channels: int) -> Any:
    import numpy as np

    mode = getattr(image, "mode", type(image).__name__)
    if CHANNELS.get(mode) != channels:
        raise StrangeError(f"an image of mode {mode}")
    pixels = np.asarray(image)
    return pixels if channels == 3 else pixels[:, :, None]
