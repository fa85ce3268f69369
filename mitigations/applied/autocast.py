"""Forward passes in half precision where torch's autocast finds that safe."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from speedprof.mitigations.applied.models import around_forward, tried, when_trained
from speedprof.mitigations.applied.process import Applied, Process


def apply(process: Process, one: Applied) -> None:
    """Run the model's forward under autocast; what it returns is float32 again for the loss."""
    import torch

    def hindrance(device: str) -> str | None:
        if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return "this GPU has no bfloat16 units"
        return None

    cast_models(process, one, torch.bfloat16, hindrance)


def cast_models(
    process: Process,
    one: Applied,
    half: Any,
    hindrance: Callable[[str], str | None],
    *,
    adopted: Callable[[Any], None] = lambda _model: None,
    let_go: Callable[[Any], None] = lambda _model: None,
) -> None:
    """Run trained models under autocast in type `half`, unless there is a hindrance.

    `adopted` and `let_go` are told of each model; of the latter where it fails under autocast.
    """

    def adopt(model: Any) -> None:
        import torch

        parameter = next(p for p in model.parameters() if p.requires_grad)
        device = parameter.device.type
        if parameter.dtype != torch.float32:
            one.note(f"the model is in {parameter.dtype} already")
            return
        why = hindrance(device)
        if why is not None:
            one.note(why)
            return
        casting = _Casting(one, device, half, let_go)
        if around_forward(process, one, model, casting.forward, "autocast"):
            adopted(model)
            one.effects += 1

    when_trained(process, one, adopt)


class _Casting:
    """Runs a model's forward under autocast, for as long as that works.

    Not every operator takes half precision: `torch.nn.BCELoss`, transforms of Fourier or a sum
    into float32 do not.
    """

    def __init__(
        self, one: Applied, device: str, half: Any, let_go: Callable[[Any], None]
    ) -> None:
        self._one, self._device, self._half, self._let_go = one, device, half, let_go
        self._given_up = False

    def forward(self, original: Any, module: Any, *arguments: Any, **keywords: Any) -> Any:
        import torch

        own = functools.partial(original, module, *arguments, **keywords)
        if self._given_up or torch.is_autocast_enabled(self._device):  # the script's own
            return own()

        def cast() -> Any:
            with torch.autocast(self._device, dtype=self._half):
                out = own()
            return _in_float32(out, self._half)

        if torch.compiler.is_compiling():
            return cast()
        return tried(cast, own, functools.partial(self._give_up, module))

    def _give_up(self, module: Any, why: str) -> None:
        self._given_up = True
        self._one.effects -= 1
        name = type(module).__name__
        self._one.note(f"{name} fails under autocast and runs without it: {why}")
        self._let_go(module)


def _in_float32(value: Any, half: Any) -> Any:
    import torch

    def inside(one: Any) -> Any:
        return _in_float32(one, half)

    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == half else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(inside, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(inside, value))
    if isinstance(value, dict):  # transformers' outputs are dicts whose items are attributes, too
        for key, one in list(value.items()):
            value[key] = inside(one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            object.__setattr__(value, field.name, inside(getattr(value, field.name, None)))
    return value
