"""Samples of data sets that are kept in memory, up to their first random transform."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Iterator
from typing import Any

from speedprof.mitigations.applied.hindrances import start_method
from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.applied.sample_shelf import Shelf
from speedprof.mitigations.applied.shared_memory import REFUSED, Shared, free_bytes, ranks_here
from speedprof.mitigations.applied.transform_chains import chains, parts

MEMORY_SHARE = 0.25  # of the free memory, where the plan names no budget; ranks share it
MOST_BYTES = 64 << 30
MB = 1 << 20
HEAP_TYPE = 1 << 9  # of type.__flags__: a class that Python code has made
ONCE = "there was one pass only, and what is kept pays from the second one on"
PRIVATE = ("numpy.Generator", "numpy.RandomState", "random.Random", "torch.Generator")


class RefusedError(Exception):
    """A data set whose samples are not kept; the text says why."""


def apply(process: Process, one: Applied) -> None:
    """Keep samples of the data sets of every loader that is passed over from now on."""
    from torch.utils.data import DataLoader

    if not hasattr(os, "fork"):
        one.note("samples are kept in memory that forked processes share; this system has none")
        return
    shelves = Shelves(process, one)
    original = DataLoader.__iter__
    adopt = process.fence.guard(f"remedy {one.name}", shelves.adopt)

    @functools.wraps(original)
    def iterate(loader: Any) -> Any:
        adopt(loader)
        return original(loader)

    process.patches.replace(DataLoader, "__iter__", iterate, reason=f"{one.name}: find data sets")
    process.changed(f"kept samples: {one.name}", shelves.close)
    process.at_end.append(shelves.tell)


class Shelves:
    """The data sets of one training process whose samples are kept."""

    def __init__(self, process: Process, one: Applied) -> None:
        self._process, self._one = process, one
        self._shared: Shared | None = None
        self._shelves: dict[int, Shelf] = {}  # by id of a data set that is alive
        self._told: dict[str, list[Shelf]] = {}
        self._known: dict[int, Any] = {}  # weak references, by id
        self._own: dict[type, Any] = {}  # __getitem__ of classes that are patched

    def adopt(self, loader: Any) -> None:
        """Keep the samples of a loader's data sets, each from its first pass on."""
        for dataset in list(_innermost(loader.dataset)):
            known = self._known.get(id(dataset))
            if known is not None and known() is dataset:
                if id(dataset) in self._shelves:
                    self._shelves[id(dataset)].passes += 1
                continue
            kind = type(dataset).__name__
            try:
                _check(dataset, loader)
                shelf = self._shelf(dataset)
            except (RefusedError, MemoryError, OSError, TypeError) as refusal:
                self._one.note(f"samples of {kind} are not kept: {refusal}")
                continue
            self._told.setdefault(kind, []).append(shelf)
            self._known[id(dataset)] = weakref.ref(dataset)
            self._shelves[id(dataset)] = shelf
            shelf.passes += 1
            weakref.finalize(dataset, self._gone, id(dataset), shelf).atexit = False
            self._patch(type(dataset))

    def tell(self) -> None:
        """Count what was read, and say what was not kept."""
        self._one.effects = 0
        for kind, shelves in self._told.items():
            counted = [shelf.counts() for shelf in shelves]
            read, kept = (sum(some) for some in zip(*counted, strict=True))
            self._one.effects += read
            for shelf in shelves:
                if shelf.why_given_up:
                    self._one.note(f"samples of {kind} are not kept: {shelf.why_given_up}")
            if kept and not read:
                once = all(shelf.passes < 2 for shelf in shelves)
                why = f"; {ONCE}" if once else ""
                self._one.note(f"{kept} samples of {kind} were kept, and none was read again{why}")
            elif read:
                self._one.note(f"{kept} samples of {kind} were kept and read {read} times")
        shared = self._shared
        if shared is not None and self._told:
            used = f"{shared.used / MB:.0f} of {shared.size / MB:.0f} MB"
            full = "; then its budget was full" if shared.words[REFUSED] else ""
            self._one.note(f"{used} were used{full}")

    def close(self) -> None:
        """Forget every sample, and give the memory back."""
        self._shelves.clear()
        for shelf in [one for some in self._told.values() for one in some]:
            shelf.close()
        self._told.clear()
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def _shelf(self, dataset: Any) -> Shelf:
        if self._shared is None:
            self._shared = Shared(self._budget())
        kind = type(dataset)
        own = self._own.get(kind, kind.__getitem__)
        return Shelf(dataset, own, self._shared, self._process.fence)

    def _gone(self, key: int, shelf: Shelf) -> None:
        if self._shelves.get(key) is shelf:
            del self._shelves[key]
        shelf.forget()

    def _budget(self) -> int:
        named = self._one.parameters.get("budget_mb")
        if named is not None:
            return int(float(named) * MB)
        free = free_bytes()
        if free is None:
            raise RefusedError("this system does not tell its free memory; name budget_mb")
        return int(min(MEMORY_SHARE * free, MOST_BYTES) / ranks_here())

    def _patch(self, kind: Any) -> None:
        """Let samples of this class be looked for first, where the data set is one of these."""
        if kind in self._own:
            return
        original, shelves = kind.__getitem__, self._shelves
        self._own[kind] = original

        @functools.wraps(original)
        def getitem(dataset: Any, index: Any) -> Any:
            shelf = shelves.get(id(dataset)) if type(dataset) is kind else None
            return original(dataset, index) if shelf is None else shelf.sample(dataset, index)

        self._process.patches.replace(
            kind, "__getitem__", getitem, reason=f"{self._one.name}: kept samples"
        )


def _innermost(dataset: Any) -> Iterator[Any]:
    """Yield the data sets that make samples, behind torch's own parts and rows of others."""
    from torch.utils.data import ConcatDataset, Subset

    if type(dataset) is Subset:
        yield from _innermost(dataset.dataset)
    elif type(dataset) is ConcatDataset:
        for one in dataset.datasets:
            yield from _innermost(one)
    else:
        yield dataset


def _check(dataset: Any, loader: Any) -> None:
    """Raise RefusedError where samples of this data set cannot be kept."""
    from torch.utils.data import IterableDataset, TensorDataset

    kind = type(dataset)
    if isinstance(dataset, IterableDataset):
        raise RefusedError("it is iterable")
    if isinstance(dataset, TensorDataset):
        raise RefusedError("they lie in memory already")
    if not (kind.__flags__ & HEAP_TYPE and hasattr(dataset, "__dict__")):
        raise RefusedError("its class cannot be changed")
    if getattr(dataset, "__getitems__", None):
        raise RefusedError("it makes whole batches at once (__getitems__)")
    for name, value in _held(dataset):
        if any(_named(one) in PRIVATE for one in type(value).__mro__):
            raise RefusedError(f"it has a generator of its own ({name})")
    if loader.num_workers and start_method(loader.multiprocessing_context) != "fork":
        raise RefusedError("workers that are not forked do not see what others have kept")


def _held(dataset: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a data set and the steps of its transforms hold."""
    yield from list(vars(dataset).items())
    for name, chain in chains(dataset).items():
        for step in (chain, *parts(chain).steps):
            held = list(getattr(step, "__dict__", {}).values())
            yield from ((name, value) for value in held)


def _named(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
