"""Forward passes in bfloat16 where torch's autocast finds that safe."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.applied.models import around_forward, when_trained
from speedprof.mitigations.applied.process import Applied, Process


def apply(process: Process, one: Applied) -> None:
    """Run the model's forward under autocast; what it returns is float32 again for the loss."""

    def adopt(model: Any) -> None:
        import torch

        parameter = next(p for p in model.parameters() if p.requires_grad)
        device = parameter.device.type
        if parameter.dtype != torch.float32:
            one.note(f"the model is in {parameter.dtype} already")
            return
        if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            one.note("this GPU has no bfloat16 units")
            return
        around_forward(process, model, _casting(device), f"{one.name}: autocast")
        one.effects += 1

    when_trained(process, one.name, adopt)


def _casting(device: str) -> Any:
    import torch

    def forward(original: Any, module: Any, *arguments: Any, **keywords: Any) -> Any:
        if torch.is_autocast_enabled(device):  # the script's own
            return original(module, *arguments, **keywords)
        with torch.autocast(device, dtype=torch.bfloat16):
            out = original(module, *arguments, **keywords)
        return _in_float32(out)

    return forward


def _in_float32(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_in_float32, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(_in_float32, value))
    if isinstance(value, dict):  # transformers' outputs are dicts whose items are attributes, too
        for key, inner in list(value.items()):
            value[key] = _in_float32(inner)
    return value
