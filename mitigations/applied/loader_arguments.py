"""DataLoaders built with other arguments than the script's: workers, prefetching, pinning."""

from __future__ import annotations

import functools
import inspect
from types import FrameType
from typing import Any

from speedprof.mitigations.applied.hindrances import hindrance
from speedprof.mitigations.applied.kept_workers import KeptWorkers
from speedprof.mitigations.applied.process import (
    Applied,
    Process,
    arguments,
    explicit_arguments,
)
from speedprof.mitigations.applied.worker_fallback import Fallback
from speedprof.profiler.machine_name import cores_here
from speedprof.profiler.trainers import OF_USERS_CHOICE, own_arguments

NEUTRAL: dict[str, Any] = {  # what goes with no workers
    "persistent_workers": False,
    "prefetch_factor": None,
    "multiprocessing_context": None,
    "timeout": 0,
}
Call = tuple[Any, Any, Any]  # what builds, and the script's arguments
HINDERING = ("dataset", "multiprocessing_context", "collate_fn")


def apply(process: Process, one: Applied) -> None:
    """Change loaders as they are built; those that exist already stay as they are."""
    from torch.utils.data import DataLoader

    fallback = Fallback(process, one) if one.parameters.get("num_workers") else None
    kept = KeptWorkers(process, one) if one.parameters.get("persistent_workers") else None
    original = DataLoader.__init__
    fence = process.fence.guard(f"remedy {one.name}: build", _build)
    watch = process.fence.guard(f"remedy {one.name}: watch", _watch)

    @functools.wraps(original)
    def initialise(loader: Any, *positional: Any, **keywords: Any) -> None:
        build, untouched = functools.partial(original, loader), dict(vars(loader))
        changed = fence(one, build, (positional, keywords), inspect.currentframe())
        if not changed:
            _blank(loader, untouched)
            original(loader, *positional, **keywords)
        watch(fallback, kept, loader, changed, (build, positional, keywords))

    process.patches.replace(
        DataLoader, "__init__", initialise, reason=f"{one.name}: {_shown(one.parameters)}"
    )


def _build(one: Applied, build: Any, call: tuple[Any, Any], frame: FrameType | None) -> bool:
    return arguments(
        one,
        "a DataLoader",
        build,
        call,
        lambda own: _changes(one, own),
        settle=_settle,
        said=lambda given: own_arguments(given, build, frame, OF_USERS_CHOICE),
    )


def _blank(loader: Any, untouched: dict[str, Any]) -> None:
    """Forget what was built in vain: torch lets much of a loader be set only once."""
    vars(loader).clear()
    vars(loader).update(untouched)


def _watch(
    fallback: Fallback | None, kept: KeptWorkers | None, loader: Any, changed: Any, call: Call
) -> None:
    """See to loaders whose workers are ours; a library may have made one of another of them."""
    if not loader.num_workers:
        return
    own = explicit_arguments(*call)
    if fallback is not None and changed and not own.get("num_workers"):
        fallback.watch(loader)
    elif fallback is not None:
        fallback.copied(loader)
    if kept is not None:
        kept.watch(loader, own)


def _settle(changes: dict[str, Any]) -> dict[str, Any]:
    """What the script says of its workers goes with them."""
    return {**NEUTRAL, **changes} if changes.get("num_workers") == 0 else changes


def _changes(one: Applied, explicit: dict[str, Any]) -> dict[str, Any]:
    """Return what to change in this loader, consistent with what the script says of it."""
    changes = dict(one.parameters)
    workers = changes.get("num_workers", explicit.get("num_workers", 0))
    if "num_workers" in changes and "num_workers" in explicit and "num_workers" not in one.named:
        workers = explicit["num_workers"]
    if not isinstance(workers, int) or isinstance(workers, bool):
        return {}
    if workers > 0 and not explicit.get("num_workers"):
        why = hindrance(*(explicit.get(name) for name in HINDERING))
        if why is not None:
            one.note(f"a DataLoader stays without workers: {why}")
            return {}
    if "num_workers" in changes and workers > cores_here():
        one.note(f"{workers} workers were asked for; this machine has cores for {cores_here()}")
    if workers == 0:
        changes = {n: v for n, v in changes.items() if n not in NEUTRAL}
    if changes.get("pin_memory") and not _accelerated():
        one.note("there is no GPU here, so nothing is pinned")
        del changes["pin_memory"]
    return changes


def _accelerated() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _shown(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items())
