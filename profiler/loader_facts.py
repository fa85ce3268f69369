"""Which loader is which, how it was built, and how it was used so far."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NamedTuple

from speedprof.profiler.batch_facts import BatchFacts
from speedprof.profiler.sampler_orders import Orders
from speedprof.profiler.trainers import module_of, only_hands_on, own_arguments

SIZED_BATCHES = 8  # batches whose bytes are counted
BUILD_ANEW = ("accelerate", "lightning", "pytorch_lightning")  # loaders that they are given
MOST_ALIKE = 8  # loaders of one line that are told apart; more of them are a list, not a trainer's
Tell = Callable[[Any, "Built"], "LoaderUse"]


class LoaderUse:
    """How one loader was used so far."""

    __slots__ = (
        "batch_bytes",
        "batches",
        "batches_seen",
        "first_batch_ns",
        "iterations",
        "number",
        "orders",
        "sized",
        "startup_ns",
        "trained",
        "wait_ns",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.batches = self.iterations = self.wait_ns = self.startup_ns = self.first_batch_ns = 0
        self.batch_bytes = self.sized = 0
        self.batches_seen = BatchFacts()
        self.orders = Orders()
        self.trained = False  # a step was made of some of its batches

    def fact(self) -> dict[str, object]:
        role = "training" if self.trained else "evaluation" if self.batches else "unused"
        return {
            "number": self.number,
            "role": role,
            "batches": self.batches,
            "iterations": self.iterations,
            "wait_ns": self.wait_ns,
            "startup_ns": self.startup_ns,
            "first_batch_ns": self.first_batch_ns,
            "batch_bytes": self.batch_bytes // self.sized if self.sized else None,
            "repeated_orders": self.orders.repeated,
        }

    def sizes(self, batch: Any) -> None:
        """Count the bytes of the first few batches."""
        if self.sized < SIZED_BATCHES:
            self.batch_bytes += bytes_in(batch)
            self.sized += 1


class Built(NamedTuple):
    """Where a loader was built."""

    where: str | None  # "file:line" of the script
    explicit: list[str]  # arguments that were given by name
    through: int  # a hash of the library's lines in between
    library: str | None  # the nearest of them, "transformers"


NOT_SEEN = Built(None, [], 0, None)


class _Known:
    """A loader, in the object that stands for it at present."""

    __slots__ = ("dataset", "loader", "through", "use")

    def __init__(self, use: LoaderUse, loader: Any, through: int) -> None:
        self.use, self.through = use, through
        self.becomes(loader)

    def becomes(self, loader: Any) -> None:
        self.loader = weakref.ref(loader)
        try:
            self.dataset: weakref.ref[Any] | int = weakref.ref(loader.dataset)
        except TypeError:  # a list, say; its id may be given to another one that comes later
            self.dataset = id(loader.dataset)

    def is_over(self, dataset: Any) -> bool:
        if isinstance(self.dataset, int):
            return self.dataset == id(dataset)
        return self.dataset() is dataset


class Loaders:
    """Tells the loaders of a process apart, by more than the line that builds them.

    A script that builds its loader anew for every epoch has one; a trainer whose one line builds
    that of training and that of evaluation has two. So what one line of the script builds for
    data sets of one class, in batches of one size, is the same loader over the same data set.
    Over another data set it is the same where the former object is gone, and the library between
    the script and the loader took the same way.
    """

    def __init__(self) -> None:
        self._built: dict[int, Built] = {}  # by the loader's id
        self._known: dict[object, list[_Known]] = {}
        # by the data set's id: how the script itself built a loader over it
        self._first: dict[int, tuple[weakref.ref[Any], Built]] = {}

    def remember(
        self, loader: Any, dataset: Any, keywords: Mapping[str, Any], frame: FrameType | None
    ) -> None:
        """A loader is being built by the code of `frame`.

        What a library makes of the script's loader is that one, with the library's way to it.
        """
        from torch.utils.data import DataLoader

        where, through, library = _origin(frame)
        explicit = own_arguments(keywords, DataLoader.__init__, frame)
        origin = Built(where, sorted(explicit), through, library)
        if library is None:
            self._remember_first(dataset, origin)
        elif library in BUILD_ANEW:
            there, first = self._first.get(id(dataset), (None, origin))
            if there is not None and there() is dataset:
                origin = first._replace(through=through)
        self._built[id(loader)] = origin

    def _remember_first(self, dataset: Any, origin: Built) -> None:
        key, first = id(dataset), self._first
        with contextlib.suppress(TypeError):  # a list, say, of which there is no weak reference
            first[key] = (weakref.ref(dataset, lambda _: first.pop(key, None)), origin)

    def forget_uses(self) -> None:
        """Count anew, in a process that was forked."""
        self._known.clear()

    def use_of(self, loader: Any, tell: Tell) -> LoaderUse:
        """Return the use of the loader that a pass begins over; `tell` describes a new one."""
        origin = self._built.get(id(loader)) or NOT_SEEN
        where = origin.where or id(loader)
        key = (where, type(loader.dataset), loader.batch_size, loader.num_workers)
        alike = self._known.setdefault(key, [])
        known = _same(alike, loader, origin.through)
        if known is not None:
            known.becomes(loader)
            return known.use
        use = tell(loader, origin)
        alike.append(_Known(use, loader, origin.through))
        return use


def _same(alike: list[_Known], loader: Any, through: int) -> _Known | None:
    """Return the one that a loader is, None where it is new."""
    for known in alike:
        if known.is_over(loader.dataset):
            return known
    for known in alike:
        if known.through == through and known.loader() is None:
            return known
    return alike[-1] if len(alike) >= MOST_ALIKE else None


def _origin(frame: FrameType | None) -> tuple[str | None, int, str | None]:
    """Find the nearest frame that is not a library's, and the way from there.

    Returns its "file:line" (that of the nearest one where all are a library's), a hash of the
    lines on the way, and the library that builds, None where none does.
    """
    while frame is not None and only_hands_on(frame):
        frame = frame.f_back
    nearest = frame
    way: list[tuple[str, int]] = []
    where = f"{nearest.f_code.co_filename}:{nearest.f_lineno}" if nearest else None
    while frame is not None:
        name = frame.f_code.co_filename
        if (
            "site-packages" not in name
            and "dist-packages" not in name
            and not name.startswith("<")
        ):
            where = f"{name}:{frame.f_lineno}"
            break
        way.append((name, frame.f_lineno))
        frame = frame.f_back
    library = module_of(nearest).partition(".")[0] if nearest is not None and way else ""
    return where, hash(tuple(way)), library or None


def built(loader: Any, origin: Built) -> dict[str, object]:
    """Describe how a loader was built, and by whom."""
    from torch.utils.data import IterableDataset

    dataset = loader.dataset
    iterable = isinstance(dataset, IterableDataset)
    context = loader.multiprocessing_context
    length = None
    if not iterable:
        try:
            length = len(dataset)
        except (TypeError, NotImplementedError):
            length = None  # a map-style dataset need not know
    return {
        "where": origin.where,
        "explicit": origin.explicit,
        "library": origin.library,
        "dataset": type(dataset).__name__,
        "iterable": iterable,
        "length": length,
        "batch_size": _batch_size(loader, origin),
        "num_workers": loader.num_workers,
        "pin_memory": bool(loader.pin_memory),
        "persistent_workers": bool(loader.persistent_workers),
        "prefetch_factor": loader.prefetch_factor,
        "start_method": None
        if context is None
        else getattr(context, "get_start_method", lambda: None)(),
        "picklable": None,
    }


def _batch_size(loader: Any, origin: Built) -> int | None:
    """Return the samples of a batch; where a library put them into a sampler, those of that."""
    own_sampler = origin.library is None and "batch_sampler" in origin.explicit
    if loader.batch_size is not None or own_sampler:
        return loader.batch_size  # type: ignore[no-any-return]
    size = getattr(loader.batch_sampler, "batch_size", None)
    return size if isinstance(size, int) else None


def samples_in(batch: Any) -> int:
    """Return how many samples a batch holds.

    The length of its first tensor, 0 where there is none.
    """
    while True:
        if isinstance(batch, (tuple, list)) and batch:
            batch = batch[0]
            continue
        shape = getattr(batch, "shape", None)  # before Mapping: asking that is slow
        if shape is not None or not (isinstance(batch, Mapping) and batch):
            return int(shape[0]) if shape else 0
        batch = next(iter(batch.values()))


def bytes_in(batch: Any) -> int:
    """Return the bytes of all tensors in a batch."""
    if isinstance(batch, Mapping):
        return sum(bytes_in(value) for value in batch.values())
    if isinstance(batch, (tuple, list)):
        return sum(bytes_in(value) for value in batch)
    return int(getattr(batch, "nbytes", 0))
