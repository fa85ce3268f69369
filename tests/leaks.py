"""Whether anything of torch, or of what we touch beside it, is not as it was before a test."""

from __future__ import annotations

import gc
import os
import sys
import threading
import types
from dataclasses import dataclass
from types import FunctionType
from typing import Any

# What may be patched, as (module, attribute path); only what is imported already is looked at
OWNERS = (
    ("torch", ""),
    ("torch", "Tensor"),
    ("torch.amp", "GradScaler"),
    ("torch.autograd", ""),
    ("torch.autograd.profiler", ""),
    ("torch.distributed", ""),
    ("torch.distributed.checkpoint", ""),
    ("torch.nn", "Module"),
    ("torch.optim", "Optimizer"),
    ("torch.utils.data", "DataLoader"),
    ("torch.utils.data._utils.fetch", "_IterableDatasetFetcher"),
    ("torch.utils.data._utils.fetch", "_MapDatasetFetcher"),
    ("torch.utils.data.dataloader", "_BaseDataLoaderIter"),
    ("torch.utils.data.dataloader", "_MultiProcessingDataLoaderIter"),
    ("torch.utils.data.dataloader", "_SingleProcessDataLoaderIter"),
    ("torchvision.transforms.transforms", "Compose"),
    ("torchvision.transforms.v2._container", "Compose"),
    ("safetensors.torch", ""),
)
HOOKS = ("_global_optimizer_post_hooks", "_global_optimizer_pre_hooks")
ABSENT = object()


@dataclass(frozen=True)
class Snapshot:
    """What was patched where at one moment, by name."""

    attributes: dict[str, Any]
    hooks: dict[str, Any]
    threads: frozenset[str]


def snapshot() -> Snapshot:
    """Look at everything that a probe or a remedy may have changed; imports nothing."""
    attributes = {}
    for module, path in OWNERS:
        owner = _owner(module, path)
        if owner is not None:
            for name, value in list(vars(owner).items()):
                attributes[f"{module}:{path}.{name}"] = value
    return Snapshot(attributes, _hooks(), frozenset(t.name for t in threading.enumerate()))


def changes(before: Snapshot, after: Snapshot) -> list[str]:
    """Return a sentence for each thing that is not as it was.

    What was first imported meanwhile is no change, unless a function of ours stands in it.
    """
    found = []
    for name, value in after.attributes.items():
        was = before.attributes.get(name, ABSENT)
        if was is value:
            continue
        if _is_ours(value):
            found.append(f"{name} is still ours")
        elif isinstance(was, FunctionType) and not _is_dynamos(value):
            found.append(f"{name} is another function than before")
    found += [
        f"{name} was taken away"
        for name, was in before.attributes.items()
        if name not in after.attributes and callable(was) and _owner_known(name)
    ]
    found += [
        f"{name} holds {left}"
        for name, left in after.hooks.items()
        if left != before.hooks.get(name, type(left)())
    ]
    found += [
        f"thread {name} is alive"
        for name in after.threads - before.threads
        if name.startswith("speedprof")
    ]
    return found


def _owner(module: str, path: str) -> Any:
    owner: Any = sys.modules.get(module)
    for part in filter(None, path.split(".")):
        owner = getattr(owner, part, None)
    return owner


def _owner_known(name: str) -> bool:
    module, _, rest = name.partition(":")
    return _owner(module, rest.rpartition(".")[0]) is not None


def _hooks() -> dict[str, Any]:
    optimizer = sys.modules.get("torch.optim.optimizer")
    found: dict[str, Any] = {
        name: dict(getattr(optimizer, name)) for name in HOOKS if hasattr(optimizer, name)
    }
    found["gc.callbacks"] = [callback for callback in gc.callbacks if _is_ours(type(callback))]
    profiler = sys.modules.get("torch.autograd.profiler")
    found["profilers"] = bool(getattr(profiler, "_is_profiler_enabled", False))
    found["environment"] = sorted(name for name in os.environ if name.startswith("SPEEDPROF_"))
    return found


def _is_ours(value: Any) -> bool:
    """Tell whether a function's code lies in this package, whatever it calls itself."""
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        return os.path.dirname(os.path.abspath(code.co_filename)) in _our_folders()
    return str(getattr(function, "__module__", "")).startswith("speedprof.profiler")


def _is_dynamos(value: Any) -> bool:
    """Tell whether torch's compiler put it there: it wraps a few functions when first imported."""
    code = getattr(value, "__code__", None)
    return code is not None and code.co_filename.endswith(
        ("torch/_compile.py", "torch/_dynamo/eval_frame.py")
    )


def _our_folders() -> tuple[str, ...]:
    import speedprof

    package = os.path.dirname(os.path.abspath(str(speedprof.__file__)))
    return tuple(os.path.join(package, part) for part in ("profiler", "mitigations"))
