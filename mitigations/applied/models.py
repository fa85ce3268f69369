"""The model that is trained, found at its first forward pass, whoever built or wrapped it."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from speedprof.mitigations.applied.process import Process

Adopt = Callable[[Any], None]
MOST_MODELS = 8  # adversarial training has two; from there on it is a zoo of losses
WRAPPERS = ("DistributedDataParallel", "DataParallel", "OptimizedModule")


def when_trained(process: Process, name: str, adopt: Adopt) -> None:
    """Call `adopt` with each outermost module, before its first forward pass in training.

    A module counts if it has parameters that want gradients, all of them initialised. Torch's own
    hook for all modules tells of it, and is taken away once a second pass over a model begins.
    """
    from torch.nn.modules.module import register_module_forward_pre_hook
    from torch.nn.parameter import is_lazy

    seen: weakref.WeakSet[Any] = weakref.WeakSet()
    inside: set[int] = set()
    handle: Any = None

    def look(module: Any, _inputs: Any) -> None:
        import torch

        if id(module) in inside or not torch.is_grad_enabled() or not module.training:
            return
        if torch.compiler.is_compiling() or module in seen:
            handle.remove()
            return
        parameters = list(module.parameters())
        if any(is_lazy(p) for p in parameters) or not any(p.requires_grad for p in parameters):
            return
        seen.add(module)
        inside.update(map(id, module.modules()))
        adopt(unwrapped(module))
        if len(seen) >= MOST_MODELS:
            handle.remove()

    handle = register_module_forward_pre_hook(process.fence.guard(f"remedy {name}: model", look))
    process.patches.hook(handle, "torch.nn.Module", reason=f"{name}: find the model")


def unwrapped(module: Any) -> Any:
    """Return the user's own module inside those of DDP and torch.compile."""
    while type(module).__name__ in WRAPPERS:
        module = getattr(module, "_orig_mod", None) or module.module
    return module


def around_forward(process: Process, model: Any, wrap: Callable[..., Any], reason: str) -> None:
    """Run `wrap(original, model, *arguments)` in place of the forward of this one model.

    The class is changed and not the object, so that the model pickles and copies as before.
    """
    kind, chosen = type(model), weakref.ref(model)
    original = kind.forward

    @functools.wraps(original)
    def forward(module: Any, *arguments: Any, **keywords: Any) -> Any:
        if module is not chosen():
            return original(module, *arguments, **keywords)
        return wrap(original, module, *arguments, **keywords)

    process.patches.replace(kind, "forward", forward, reason=reason)
