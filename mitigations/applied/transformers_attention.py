"""Fused attention for models of transformers, which have it beside the one written out."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.applied.attention_proof import ROUNDED
from speedprof.mitigations.applied.models import around_forward, aside
from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.applied.twins import Call, same_random, undropped

WRITTEN_OUT, FUSED = "eager", "sdpa"
WEIGHTS = "output_attentions"  # the argument that asks for them


def adopt(process: Process, one: Applied, model: Any) -> bool:
    """See to the model if it is one of transformers; return whether it is."""
    inner = next((m for m in model.modules() if _implementation(m) is not None), None)
    if inner is None:
        return False
    now = _implementation(inner)
    if now != WRITTEN_OUT:
        one.note(f"{type(inner).__name__} runs attention by {now!r} already")
    elif not getattr(inner, "_supports_sdpa", False):
        one.note(f"{type(inner).__name__} has no fused attention")
    else:
        switch = _Switch(process, one)
        around_forward(process, one, inner, switch.forward, "prove it")
    return True


def _implementation(module: Any) -> str | None:
    """Return how a model of transformers computes attention, None for other modules."""
    if not callable(getattr(module, "set_attn_implementation", None)):
        return None
    told = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return told if isinstance(told, str) else None


class _Switch:
    """Turns fused attention on at the first call, if it computes the same."""

    def __init__(self, process: Process, one: Applied) -> None:
        self._process, self._one = process, one
        self._decide = process.fence.guard(f"remedy {one.name}: transformers", self._decided)
        self._done = self._agreed = False

    def forward(self, original: Any, model: Any, *arguments: Any, **keywords: Any) -> Any:
        import torch

        if not self._done and not torch.compiler.is_compiling():
            self._done = True
            self._decide(original, model, (arguments, keywords))
            if not self._agreed and _implementation(model) == FUSED:
                model.set_attn_implementation(WRITTEN_OUT)
        if self._agreed and keywords.get(WEIGHTS):
            self._agreed = False
            self._one.effects -= 1
            self._one.note(f"{type(model).__name__} is asked for its weights, which it now has")
            model.set_attn_implementation(WRITTEN_OUT)
        return original(model, *arguments, **keywords)

    def _decided(self, original: Any, model: Any, call: Call) -> None:
        written = _outputs(original, model, call)
        model.set_attn_implementation(FUSED)
        apart = _apart(written, _outputs(original, model, call))
        if apart is not None or _implementation(model) != FUSED:
            why = apart or "transformers refused it"
            self._one.note(f"{type(model).__name__} stays as it is: {why}")
            return
        self._agreed = True
        self._one.effects += 1
        self._process.changed(
            f"{type(model).__name__}.attn_implementation: {self._one.name}: {FUSED}",
            lambda: model.set_attn_implementation(WRITTEN_OUT),
        )


def _outputs(original: Any, model: Any, call: Call) -> list[Any]:
    import torch

    arguments, keywords = call
    with aside(), torch.no_grad(), same_random(call), undropped():
        made = original(model, *arguments, **keywords)
    inside = made.values() if isinstance(made, dict) else made
    inside = (inside,) if isinstance(inside, torch.Tensor) else inside
    several = (one if isinstance(one, (list, tuple)) else (one,) for one in inside)
    return [one for each in several for one in each if isinstance(one, torch.Tensor)]  # no caches


def _apart(first: list[Any], second: list[Any]) -> str | None:
    """Return how much outputs differ, None where it is rounding (of any precision)."""
    if [t.shape for t in first] != [t.shape for t in second]:
        return "it returns something else"
    for one, other in zip(first, second, strict=True):
        apart = float((one.float() - other.float()).abs().max() / one.float().abs().max())
        if not apart <= ROUNDED:
            return f"outputs differ by {apart:.2g} of the largest"
    return None
