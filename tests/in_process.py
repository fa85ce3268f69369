"""A session in the test's own process, and small trainings to put under it."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from speedprof.profiler import record
from speedprof.profiler.session import Options, Session

Waiting = dict[str, Callable[[ModuleType], None]]


@contextmanager
def measuring(folder: Path, **options: Any) -> Iterator[Session]:
    """Measure what this process trains meanwhile, as the injection does."""
    session = Session(str(folder), Options(**options))
    session.begin({})
    try:
        yield session
    finally:
        session.end()


def facts(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the facts of one kind in the folder's records, in order."""
    found = []
    for path in sorted(folder.glob("rank-*.rec")):
        for mark, payload, skipped in record.frames(path.read_bytes()):
            assert not skipped, f"{path.name} is damaged"
            fact = json.loads(payload) if mark == record.FACT else {}
            if fact.get("fact") == kind:
                found.append(fact)
    return found


def rows(folder: Path) -> list[list[int]]:
    """Return the rows of the folder's only record, in order."""
    (path,) = folder.glob("rank-*.rec")
    values: list[int] = []
    for mark, payload, _ in record.frames(path.read_bytes()):
        if mark == record.STEPS:
            values.extend(array("q", payload))
    width = len(record.STEP_COLUMNS)
    return [values[start : start + width] for start in range(0, len(values), width)]


def digest(model: Any) -> str:
    """Return a hash of every bit of a model's state."""
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode())
        whole.update(tensor.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()
