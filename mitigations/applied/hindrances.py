"""Why worker processes cannot make a loader's batches."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from typing import Any

MOST_LOOKED_AT = 1000  # values of a data set
DEEPEST = 4  # data sets inside data sets
UNPICKLABLE = (
    TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError, pickle.PicklingError,
)  # fmt: skip
# Two processes that read on through one of these move each other's position, or break its state;
# h5py's and lmdb's manuals say so, sqlite's "how to corrupt" too.
SHARED = frozenset(
    {
        "h5py.File", "h5py.Group", "h5py.Dataset", "lmdb.Environment", "builtins.Environment",
        "netCDF4.Dataset",
        "sqlite3.Connection", "sqlite3.Cursor", "tarfile.TarFile", "zipfile.ZipFile",
        "tempfile._TemporaryFileWrapper",
    }
)  # fmt: skip
THREADS = frozenset({"threading.Thread", "concurrent.ThreadPoolExecutor"})


def hindrance(dataset: Any, context: Any = None, collate: Any = None) -> str | None:
    """Return why workers cannot make this data set's samples, None where they can.

    `context` is the script's multiprocessing context or its name, `collate` its collate_fn.
    """
    from torch.utils.data import IterableDataset

    kind, method = type(dataset).__name__, start_method(context)
    if isinstance(dataset, IterableDataset):
        return f"{kind} is iterable, and every worker would yield all of it"
    return _kept(dataset, kind) or (
        None if method == "fork" else _unsent(dataset, collate, method)
    )


def _kept(dataset: Any, kind: str) -> str | None:
    """Return what a data set keeps that processes cannot share."""
    for name, value in itertools.islice(_held(dataset), MOST_LOOKED_AT):
        if getattr(value, "is_cuda", False) is True:
            return f"{kind} keeps tensors on the GPU, which forked processes cannot use"
        if _is_open(value):
            return (
                f"{kind} keeps a {type(value).__name__} open ({name}), and forked processes would "
                "read on from each other's position"
            )
        if _named(value, THREADS):
            return f"{kind} keeps a thread ({name}), which forked processes do not have"
    return None


def _unsent(dataset: Any, collate: Any, method: str) -> str | None:
    """Return why a data set cannot be sent to processes that are not forked."""
    if _runs_again():
        return (
            f"workers are started by {method}, which would run the script again: its training "
            'does not stand below `if __name__ == "__main__":`'
        )
    try:
        pickle.dumps((dataset, collate))
    except UNPICKLABLE as error:
        return f"{type(dataset).__name__} cannot be pickled ({error})"
    return None


def start_method(context: Any = None) -> str:
    """Return how workers are started, and leave it open where the script has not decided yet."""
    if isinstance(context, str):
        return context
    asked = (context or multiprocessing).get_start_method(allow_none=True)
    return str(asked or multiprocessing.get_all_start_methods()[0])  # the first is the default


def _runs_again() -> bool:
    """Tell whether a process that is not forked would train, too: it imports the script."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if path is None:
        return False
    try:
        with open(path, "rb") as file:
            return b"__name__" not in file.read()
    except OSError:
        return False  # nor can the process read it


def _held(dataset: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield what a data set, and those inside it, keep: names of attributes and values."""
    for name, value in list(getattr(dataset, "__dict__", {}).items()):
        yield name, value
        if isinstance(value, (list, tuple)):
            yield from ((name, inner) for inner in itertools.islice(value, MOST_LOOKED_AT // 10))
        elif isinstance(value, dict):
            several = itertools.islice(list(value.values()), MOST_LOOKED_AT // 10)
            yield from ((name, inner) for inner in several)
    if depth < DEEPEST:
        inner = [getattr(dataset, "dataset", None), *_several(dataset)]
        for one in inner:
            if one is not None:
                yield from _held(one, depth + 1)


def _several(dataset: Any) -> list[Any]:
    datasets = getattr(dataset, "datasets", None)
    return list(datasets[:DEEPEST]) if isinstance(datasets, (list, tuple)) else []


def _is_open(value: Any) -> bool:
    if isinstance(value, io.IOBase):
        return not isinstance(value, (io.BytesIO, io.StringIO)) and not value.closed
    return _named(value, SHARED)


def _named(value: Any, names: frozenset[str]) -> bool:
    """Tell whether a value is of one of these classes, without importing any."""
    return any(
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}" in names
        for kind in type(value).__mro__
    )
