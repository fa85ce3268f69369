"""The model that is trained, found at its first forward pass, whoever built or wrapped it."""

from __future__ import annotations

import contextlib
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from speedprof.mitigations.applied.process import Applied, Process

Adopt = Callable[[Any], None]
What = TypeVar("What")
GiveUp = Callable[[str], object]
MOST_MODELS = 8  # adversarial training has two; from there on it is a zoo of losses
LAST_LOOK = 4  # passes over a model, after which no further one is looked for
WRAPPERS = ("DistributedDataParallel", "DataParallel", "OptimizedModule")
# What a changed pass may raise; anything else is the script's, or the user's
FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
_aside = False  # what runs is ours
_called: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # models, as wrapped


def when_trained(process: Process, one: Applied, adopt: Adopt) -> None:
    """Call `adopt` with each outermost module, before its first forward pass in training.

    A module counts if it has parameters that want gradients, all of them initialised. Torch's own
    hook for all modules tells of it. It is taken away after a few passes over a model, and is back
    when an optimizer updates what no model that was found has: another training begins.
    """
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    finder = _Finder(process, one, adopt)
    finder.begin()
    process.patches.hook(finder, "torch.nn.Module", reason=f"{one.name}: find the model")
    again = process.fence.guard(f"remedy {one.name}: again", finder.step)
    handle = register_optimizer_step_pre_hook(again)
    process.patches.hook(handle, "torch.optim.Optimizer", reason=f"{one.name}: find the model")


class _Finder:
    """Looks at every module that is called, for as long as there may be models to find."""

    def __init__(self, process: Process, one: Applied, adopt: Adopt) -> None:
        self._one, self._adopt = one, adopt
        self._guarded = process.fence.guard(f"remedy {one.name}: model", self._look)
        self._passes: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._inside: weakref.WeakSet[Any] = weakref.WeakSet()
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._found = 0
        self._handle: Any = None

    def begin(self) -> None:
        from torch.nn.modules.module import register_module_forward_pre_hook

        if self._handle is None and self._found < MOST_MODELS:
            self._handle = register_module_forward_pre_hook(self._guarded)

    def remove(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def step(self, optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        if optimizer in self._optimizers:
            return
        self._optimizers.add(optimizer)
        known = {id(p) for module in self._passes for p in module.parameters()}
        if any(id(p) not in known for group in optimizer.param_groups for p in group["params"]):
            self._passes = weakref.WeakKeyDictionary(dict.fromkeys(self._passes, 1))
            self.begin()

    def _look(self, module: Any, inputs: Any) -> None:
        import torch

        if _aside or not (torch.is_grad_enabled() and module.training):
            return
        if torch.compiler.is_compiling():
            if not self._found:  # a model that the script compiled in place
                torch.compiler.disable(self._look)(module, inputs)
            return
        passes = self._passes.get(module)
        if passes is not None:
            self._passes[module] = passes + 1
            if passes + 1 >= LAST_LOOK and not _is_compiled(module):
                self.remove()
        elif module not in self._inside and _is_model(module):
            self._find(module)

    def _find(self, module: Any) -> None:
        self._passes[module] = 1
        self._inside.update(module.modules())
        self._found += 1
        if self._found >= MOST_MODELS:
            self.remove()
        why = _hindrance(module)
        if why is not None:
            self._one.note(why)
            return
        model = unwrapped(module)
        _called[model] = weakref.ref(module)
        self._adopt(model)


def exchanging(model: Any) -> Any:
    """Return the DistributedDataParallel that a model was found in, None without one."""
    module = _called[model]() if model in _called else model
    while type(module).__name__ in WRAPPERS:
        if type(module).__name__ == "DistributedDataParallel":
            return module
        module = _inside(module)
    return None


def _is_compiled(module: Any) -> bool:
    """Tell whether the script compiles it: it would be compiled anew without a hook."""
    while type(module).__name__ in WRAPPERS:
        if type(module).__name__ == "OptimizedModule":
            return True
        module = _inside(module)
    return isinstance(module._compiled_call_impl, types.FunctionType)  # noqa: SLF001 - no other sign


def _is_model(module: Any) -> bool:
    """Tell whether a module can be what is trained; those that make a weight are called, too."""
    from torch.nn.parameter import is_lazy
    from torch.nn.utils.parametrize import ParametrizationList

    parameters = list(module.parameters())
    if any(is_lazy(p) for p in parameters) or isinstance(module, ParametrizationList):
        return False
    return any(p.requires_grad for p in parameters)


def unwrapped(module: Any) -> Any:
    """Return the user's own module inside those of DDP and torch.compile."""
    while type(module).__name__ in WRAPPERS:
        module = _inside(module)
    return module


def _inside(wrapper: Any) -> Any:
    return getattr(wrapper, "_orig_mod", None) or wrapper.module


def _hindrance(module: Any) -> str | None:
    """Return why the model inside these wrappers is not changed, None where it can be."""
    import torch

    while type(module).__name__ in WRAPPERS:
        if type(module).__name__ == "DataParallel" and len(module.device_ids) > 1:
            return "DataParallel runs copies of the model, which stay as they are"
        module = _inside(module)
    if isinstance(module, torch.jit.ScriptModule):
        return f"{type(module).__name__} is TorchScript, which stays as it is"
    return None


def around_forward(
    process: Process, one: Applied, model: Any, wrap: Callable[..., Any], what: str
) -> bool:
    """Run `wrap(original, model, *arguments)` in place of the forward of this one model.

    The class is changed and not the object, so that the model pickles and copies as before.
    Return whether that was done: a forward that the script put on the object stays.
    """
    if "forward" in vars(model):
        one.note(f"{type(model).__name__} has a forward of its own put on it, which stays")
        return False
    kind, chosen = type(model), weakref.ref(model)
    original = kind.forward

    @functools.wraps(original)
    def forward(module: Any, *arguments: Any, **keywords: Any) -> Any:
        if module is not chosen():
            return original(module, *arguments, **keywords)
        return wrap(original, module, *arguments, **keywords)

    process.patches.replace(kind, "forward", forward, reason=f"{one.name}: {what}")
    return True


def tried(changed: Callable[[], Any], own: Callable[[], Any], give_up: GiveUp) -> Any:
    """Return what a changed pass gives; where it fails and the script's own does not, give it up.

    Raises what the script's own raises. The error is let go before, with all that its frames hold.
    """
    try:
        return changed()
    except FAILURES as error:
        why = first_line(error)
    made = own()
    give_up(why)
    return made


def first_line(error: Exception) -> str:
    """Return what an error is in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


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
