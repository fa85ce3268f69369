"""Optimizers whose update is one kernel for all parameters, or a few where that is impossible."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process, arguments

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
# Without a fused implementation, but one that updates all tensors together
FOREACH = ("ASGD", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop")
OTHERWISE = ("foreach", "differentiable", "capturable")  # the script has chosen another way
Call = tuple[tuple[Any, ...], dict[str, Any]]


def apply(process: Process, one: Applied) -> None:
    """Build torch's own optimizers with `fused=True` where their parameters allow it.

    With the parameter `foreach`, those that cannot be fused are built with `foreach=True`.
    """
    import torch

    for name in (*FUSED, *FOREACH):
        kind = getattr(torch.optim, name)
        changed = "fused=True" if name in FUSED else "foreach=True"
        process.patches.replace(
            kind, "__init__", _building(process, one, kind), reason=f"{one.name}: {changed}"
        )


def _building(process: Process, one: Applied, kind: Any) -> Any:
    original = kind.__init__
    fence = process.fence.guard(f"remedy {one.name}: build", _build)

    @functools.wraps(original)
    def initialise(optimizer: Any, *positional: Any, **keywords: Any) -> None:
        if type(optimizer) is not kind:  # AdamW is an Adam, and a user's own may be anything
            original(optimizer, *positional, **keywords)
            return
        positional, keywords = _kept(positional, keywords)
        build = functools.partial(original, optimizer)
        if not fence(one, build, kind.__name__, (positional, keywords)):
            original(optimizer, *positional, **keywords)
        elif optimizer.defaults.get("fused"):
            _watch(process, one, optimizer)

    return initialise


def _watch(process: Process, one: Applied, optimizer: Any) -> None:
    """Look at an optimizer's first gradients, and at what it may have loaded, as at a resume."""
    handle: Any = None

    def look(optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        several = (p for group in optimizer.param_groups for p in group["params"])
        parameters = [p for p in several if p.grad is not None]
        if parameters:
            handle.remove()
        why = next(filter(None, (_unfit(p, optimizer.state.get(p, {})) for p in parameters)), None)
        if why is not None:
            for held in (optimizer.defaults, *optimizer.param_groups):
                held["fused"] = None  # what torch finds best, as without us
            optimizer._step_supports_amp_scaling = False  # noqa: SLF001 - GradScaler asks for it
            one.effects -= 1
            one.note(f"{type(optimizer).__name__} cannot be fused: {why}")

    guard = process.fence.guard(f"remedy {one.name}: gradients", look)
    handle = optimizer.register_step_pre_hook(guard)


def _unfit(parameter: Any, state: dict[str, Any]) -> str | None:
    """Return why a parameter's update is not to be fused, None where it can be.

    Fused updates refuse sparse gradients, and on a CPU go through all tensors as they lie.
    """
    import torch

    if parameter.grad.is_sparse:
        return "gradients of it are sparse"
    for held in (parameter.grad, *state.values()):
        alike = isinstance(held, torch.Tensor) and held.shape == parameter.shape
        if alike and _order(held) != _order(parameter):
            return "what it keeps of its weights lies otherwise than these"
    return None


def _order(tensor: Any) -> list[int]:
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return [stride for size, stride in sizes if size > 1]


def _kept(positional: tuple[Any, ...], keywords: dict[str, Any]) -> Call:
    """Keep what an iterator of parameters gives: building may be tried twice."""
    if positional and isinstance(positional[0], Iterator):
        positional = (list(positional[0]), *positional[1:])
    elif isinstance(keywords.get("params"), Iterator):
        keywords = {**keywords, "params": list(keywords["params"])}
    return positional, keywords


def _build(one: Applied, build: Any, name: str, call: Call) -> bool:
    together = bool(one.parameters.get("foreach"))

    def wanted(explicit: dict[str, Any]) -> dict[str, Any]:
        chosen = next((other for other in OTHERWISE if explicit.get(other)), None)
        if chosen is not None:
            one.note(f"{name} stays as it is: the script asks for {chosen}=True")
            return {}
        if explicit.get("fused"):
            one.note(f"{name} is fused already: the script asks for it")
            return {}
        why = _refusal(explicit.get("params"))
        if why is not None:
            one.note(f"{name} cannot be fused: {why}")
            return {}
        return {"fused": True}

    def at_least(explicit: dict[str, Any]) -> dict[str, Any]:
        return {} if explicit.get("differentiable") else {"foreach": True}

    if name in FUSED and arguments(one, name, build, call, wanted):
        return True
    if name in FOREACH and not together:
        one.note(f"{name} has no fused implementation; foreach=true updates its tensors together")
    return together and arguments(one, name, build, call, at_least)


def _refusal(parameters: Any) -> str | None:
    """Return why torch would refuse to fuse these; some optimizers say so at their first step."""
    optimizer = importlib.import_module("torch.optim.optimizer")
    check: Any = getattr(optimizer, "_device_dtype_check_for_fused", lambda _parameter: None)
    try:
        for parameter in _tensors(parameters):
            check(parameter)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def _tensors(given: Any) -> Iterator[Any]:
    """Yield the tensors in lists, groups and pairs of name and tensor, as optimizers take them."""
    import torch

    if isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, dict):
        yield from _tensors(given.get("params"))
    elif isinstance(given, (list, tuple)):
        for one in given:
            yield from _tensors(one)
