"""Workers that are kept from pass to pass where the script did not ask for it: it must not show.

Torch hands out one iterator for all passes over such a loader. A pass that begins while another
is not over would take its place, and what the script changes in its data set between two passes
would not reach the workers. In both cases new workers are started.
"""

from __future__ import annotations

import functools
import itertools
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.applied.unchanged import Attributes, alike, mark

MOST_LOOKED_AT = 1000  # values of a data set
MOST_ITEMS = 100_000  # of a list or an array, from all over it
INSIDE = 100  # the longest list whose items are looked into
OPAQUE = (ModuleType, FunctionType, MethodType, type)
CHANGED = "new workers were started where the script had changed its data set between two passes"
BESIDE = "new workers were started where a second pass began beside the first"


class KeptWorkers:
    """Loaders whose workers stay because of us, and what their data sets held at the fork."""

    def __init__(self, process: Process, one: Applied) -> None:
        from torch.utils.data import DataLoader
        from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter as ByWorkers

        self._one = one
        self._ours: weakref.WeakKeyDictionary[Any, Attributes] = weakref.WeakKeyDictionary()
        self._over: weakref.WeakSet[Any] = weakref.WeakSet()  # passes that came to their end
        begins = process.fence.guard(f"remedy {one.name}: pass", self._begins)
        iterate, over = DataLoader.__iter__, self._over
        following = ByWorkers._next_data  # noqa: SLF001 - torch tells of the end nowhere else

        @functools.wraps(iterate)
        def __iter__(loader: Any) -> Any:  # noqa: N807 - its name in DataLoader
            begins(loader)
            return iterate(loader)

        @functools.wraps(following)
        def _next_data(passing: Any) -> Any:
            try:
                return following(passing)
            except StopIteration:
                over.add(passing)
                raise

        why = f"{one.name}: workers that are kept"
        process.patches.replace(DataLoader, "__iter__", __iter__, reason=why)
        process.patches.replace(ByWorkers, "_next_data", _next_data, reason=why)

    def watch(self, loader: Any, own: dict[str, Any]) -> None:
        """See to a loader that keeps its workers, unless the script's `own` arguments say so.

        A library may have made one of another of ours.
        """
        if not loader.persistent_workers:
            return
        copied = any(one.dataset is loader.dataset for one in list(self._ours))
        if copied or not own.get("persistent_workers"):
            self._ours[loader] = []

    def _begins(self, loader: Any) -> None:
        """Have new workers started where those that are there would make other batches."""
        if loader not in self._ours:
            return
        held, now = vars(loader), list(reaching(loader))
        if held.get("_iterator") is not None:
            if _references(held) > ALONE and held["_iterator"] not in self._over:
                self._one.note(BESIDE)  # and it goes on with its own
            elif not alike(self._ours[loader], now):
                self._one.note(CHANGED)
            else:
                self._over.discard(held["_iterator"])
                return
            held["_iterator"] = None
        self._ours[loader] = now


def reaching(loader: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a loader's workers get: values of its data set and of what that consists of."""
    dataset = loader.dataset
    yield "collate_fn", loader.collate_fn, None
    yield "dataset", dataset, _mark(dataset)
    waiting, seen = deque([dataset]), {id(dataset)}
    for _ in range(MOST_LOOKED_AT):
        if not waiting:
            return
        for name, value in list(getattr(waiting.popleft(), "__dict__", {}).items()):
            yield name, value, _mark(value)
            for inner in _within(value):
                if id(inner) not in seen:
                    seen.add(id(inner))
                    waiting.append(inner)


def _within(value: Any) -> Iterator[Any]:
    """Yield the objects with attributes of their own that a value is or consists of."""
    several: Any = (value,)
    if isinstance(value, (list, tuple)):
        several = value[:INSIDE]
    elif isinstance(value, dict):
        several = itertools.islice(list(value.values()), INSIDE)
    return (one for one in several if hasattr(one, "__dict__") and not isinstance(one, OPAQUE))


def _mark(value: Any) -> Any:
    """Return what tells that a value was changed in place."""
    if isinstance(value, (list, dict)):
        items = value if isinstance(value, list) else list(value.values())
        step = max(1, len(items) // MOST_ITEMS)
        return len(items), hash(tuple(map(id, items[::step])))
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ndarray:
        step = max(1, value.size // MOST_ITEMS)
        return value.shape, hash(value.flat[::step].tobytes())
    return mark(value)


def _references(held: dict[str, Any]) -> int:
    one = held["_iterator"]
    return sys.getrefcount(one)


ALONE = _references({"_iterator": object()})  # of a pass that nothing but its loader holds
