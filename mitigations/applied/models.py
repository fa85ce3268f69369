"""The model that is trained, found at its first forward pass, whoever built or wrapped it."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from speedprof.mitigations.applied.process import Process

Adopt = Callable[[Any], None]
What = TypeVar("What")
MOST_MODELS = 8  # adversarial training has two; from there on it is a zoo of losses
WRAPPERS = ("DistributedDataParallel", "DataParallel", "OptimizedModule")
_aside = False  # what runs is ours


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

        if _aside or id(module) in inside or not (torch.is_grad_enabled() and module.training):
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


class Chosen(Generic[What]):
    """What was chosen for single modules; forgotten where they are gone."""

    def __init__(self) -> None:
        self._known: dict[int, What] = {}
        self.kinds: set[type] = set()

    def put(self, module: Any, what: What) -> None:
        self._known[id(module)] = what
        self.kinds.add(type(module))
        weakref.finalize(module, self._known.pop, id(module), None).atexit = False

    def get(self, module: Any) -> What | None:
        return self._known.get(id(module))


def around_forwards(
    process: Process, chosen: Chosen[What], wrap: Callable[..., Any], reason: str
) -> None:
    """Run `wrap(original, what, module, (arguments, keywords))` in place of the chosen forwards.

    Their classes are changed and not the objects, so that these pickle and copy as before; a copy
    is not chosen.
    """
    originals: list[tuple[Any, Any]] = [(kind, getattr(kind, "forward")) for kind in chosen.kinds]  # noqa: B009
    for kind, original in originals:
        forward = _choosing(kind, original, chosen, wrap)
        process.patches.replace(kind, "forward", forward, reason=reason)


def _choosing(kind: type, original: Any, chosen: Chosen[What], wrap: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def forward(module: Any, *arguments: Any, **keywords: Any) -> Any:
        what = chosen.get(module) if type(module) is kind else None  # else it is its super()
        if what is None:
            return original(module, *arguments, **keywords)
        return wrap(original, what, module, (arguments, keywords))

    return forward


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Run a model for our own purposes: no remedy adopts what runs meanwhile."""
    global _aside  # noqa: PLW0603
    before, _aside = _aside, True
    try:
        yield
    finally:
        _aside = before
