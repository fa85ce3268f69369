"""Gradients that are dropped between updates instead of being filled with zeros."""

from __future__ import annotations

import functools
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process

ARGUMENT = "set_to_none"


def apply(process: Process, one: Applied) -> None:
    """Turn `zero_grad(set_to_none=False)` into `True`, where the plan names it.

    Only calls that say so are changed: without the argument torch drops gradients since 2.0.
    """
    import torch

    for owner in (torch.optim.Optimizer, torch.nn.Module):
        process.patches.replace(
            owner,
            "zero_grad",
            _dropping(process, one, owner),
            reason=f"{one.name}: drop gradients",
        )
    process.at_end.append(lambda: _tell(one))


def _dropping(process: Process, one: Applied, owner: Any) -> Any:
    original = owner.zero_grad
    fence = process.fence.guard(f"remedy {one.name}", _is_changed)

    @functools.wraps(original)
    def zero_grad(owned: Any, *positional: Any, **keywords: Any) -> Any:
        if fence(one, positional, keywords):
            return original(owned, **{ARGUMENT: True})
        return original(owned, *positional, **keywords)

    return zero_grad


def _is_changed(one: Applied, positional: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    given = positional[0] if positional else keywords.get(ARGUMENT, True)
    if given is not False or not one.parameters[ARGUMENT]:
        return False
    if ARGUMENT not in one.named:
        one.note(
            "the script asks for set_to_none=False itself; write set-to-none=true to change it"
        )
        return False
    one.effects += 1
    return True


def _tell(one: Applied) -> None:
    if not one.effects and not one.notes:
        one.note("no call of zero_grad asks for zeros")
