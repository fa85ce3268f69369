"""Forward passes in half precision where torch's autocast finds that safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from speedprof.mitigations.applied.models import around_forward, when_trained
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
    adopted: Callable[[Any], None] = lambda _model: None,
) -> None:
    """Run trained models under autocast in type `half`, unless there is a hindrance."""

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
        around_forward(process, model, _casting(device, half), f"{one.name}: autocast")
        adopted(model)
        one.effects += 1

    when_trained(process, one.name, adopt)


def _casting(device: str, half: Any) -> Any:
    import torch

    def forward(original: Any, module: Any, *arguments: Any, **keywords: Any) -> Any:
        if torch.is_autocast_enabled(device):  # the script's own
            return original(module, *arguments, **keywords)
        with torch.autocast(device, dtype=half):
            out = original(module, *arguments, **keywords)
        return _in_float32(out, half)

    return forward


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
    return value
