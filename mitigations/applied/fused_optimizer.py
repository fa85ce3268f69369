"""Optimizers whose update is one kernel for all parameters."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process, arguments

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
OTHERWISE = ("foreach", "differentiable", "capturable")  # the script has chosen another way
Call = tuple[tuple[Any, ...], dict[str, Any]]


def apply(process: Process, one: Applied) -> None:
    """Build torch's own optimizers with `fused=True` where their parameters allow it."""
    import torch

    for name in FUSED:
        kind = getattr(torch.optim, name)
        process.patches.replace(
            kind, "__init__", _building(process, one, kind), reason=f"{one.name}: fused=True"
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

    return initialise


def _kept(positional: tuple[Any, ...], keywords: dict[str, Any]) -> Call:
    """Keep what an iterator of parameters gives: building may be tried twice."""
    if positional and isinstance(positional[0], Iterator):
        positional = (list(positional[0]), *positional[1:])
    elif isinstance(keywords.get("params"), Iterator):
        keywords = {**keywords, "params": list(keywords["params"])}
    return positional, keywords


def _build(one: Applied, build: Any, name: str, call: Call) -> bool:
    def wanted(explicit: dict[str, Any]) -> dict[str, Any]:
        chosen = next((other for other in OTHERWISE if explicit.get(other)), None)
        if chosen is not None:
            one.note(f"{name} stays as it is: the script asks for {chosen}=True")
            return {}
        return {"fused": True}

    return arguments(one, name, build, call, wanted)
