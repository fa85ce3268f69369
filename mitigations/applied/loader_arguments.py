"""DataLoaders built with other arguments than the script's: workers, prefetching, pinning."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import pickle
from typing import Any

from speedprof.mitigations.applied.process import REFUSALS, Applied, Process, arguments
from speedprof.profiler.machine_name import cores_here

NEUTRAL: dict[str, Any] = {  # what goes with no workers
    "persistent_workers": False,
    "prefetch_factor": None,
    "multiprocessing_context": None,
    "timeout": 0,
}
MOST_LOOKED_AT = 1000  # values of a data set


def apply(process: Process, one: Applied) -> None:
    """Change loaders as they are built; those that exist already stay as they are."""
    from torch.utils.data import DataLoader

    original = DataLoader.__init__
    fence = process.fence.guard(f"remedy {one.name}: build", _build)

    @functools.wraps(original)
    def initialise(loader: Any, *positional: Any, **keywords: Any) -> None:
        build = functools.partial(original, loader)
        if not fence(one, build, positional, keywords):
            original(loader, *positional, **keywords)

    process.patches.replace(
        DataLoader, "__init__", initialise, reason=f"{one.name}: {_shown(one.parameters)}"
    )


def _build(one: Applied, build: Any, positional: Any, keywords: Any) -> bool:
    call = (positional, keywords)
    return arguments(
        one, "a DataLoader", build, call, lambda own: _changes(one, own), settle=_settle
    )


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
        hindrance = _hindrance(explicit)
        if hindrance is not None:
            one.note(f"a DataLoader stays without workers: {hindrance}")
            return {}
    if "num_workers" in changes and workers > cores_here():
        one.note(f"{workers} workers were asked for; this machine has cores for {cores_here()}")
    if workers == 0:
        changes = {n: v for n, v in changes.items() if n not in NEUTRAL}
    if changes.get("pin_memory") and not _accelerated():
        one.note("there is no GPU here, so nothing is pinned")
        del changes["pin_memory"]
    return changes


def _hindrance(explicit: dict[str, Any]) -> str | None:
    """Return why worker processes cannot make this loader's batches, None where they can."""
    from torch.utils.data import IterableDataset

    dataset = explicit.get("dataset")
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        return f"{kind} is iterable, and every worker would yield all of it"
    if _on_device(dataset):
        return f"{kind} keeps tensors on the GPU, which forked processes cannot use"
    context = explicit.get("multiprocessing_context")
    method = getattr(context, "get_start_method", lambda: context)()
    if (method or multiprocessing.get_start_method()) != "fork":
        try:
            pickle.dumps((dataset, explicit.get("collate_fn")))
        except (*REFUSALS, pickle.PicklingError, AttributeError) as error:
            return f"{kind} cannot be pickled ({error})"
    return None


def _on_device(dataset: Any) -> bool:
    held = getattr(dataset, "__dict__", {}).values()
    nested = (value if isinstance(value, (list, tuple)) else [value] for value in held)
    some = itertools.islice(itertools.chain.from_iterable(nested), MOST_LOOKED_AT)
    return any(getattr(value, "is_cuda", False) is True for value in some)


def _accelerated() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _shown(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items())
