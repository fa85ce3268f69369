"""Images and weights of convolutions stored channels last."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.applied.models import around_forward, when_trained
from speedprof.mitigations.applied.process import Applied, Process

IMAGES = 4  # dimensions: samples, channels, height, width


def apply(process: Process, one: Applied) -> None:
    """Convert the model at its first forward pass in training, and its images from then on."""

    def adopt(model: Any) -> None:
        import torch

        if not any(isinstance(module, torch.nn.Conv2d) for module in model.modules()):
            one.note(f"{type(model).__name__} has no Conv2d, so its layout stays")
            return
        model.to(memory_format=torch.channels_last)
        process.changed(
            f"{type(model).__name__}.parameters: {one.name}",
            lambda: model.to(memory_format=torch.contiguous_format),
        )
        around_forward(process, model, _with_images_last, f"{one.name}: convert images")
        one.effects += 1

    when_trained(process, one.name, adopt)


def _with_images_last(original: Any, module: Any, *arguments: Any, **keywords: Any) -> Any:
    return original(module, *map(_images_last, arguments), **keywords)


def _images_last(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor) and value.dim() == IMAGES:
        return value.contiguous(memory_format=torch.channels_last)
    return value
