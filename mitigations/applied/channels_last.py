"""Images and weights of convolutions stored channels last."""

from __future__ import annotations

import functools
import weakref
from typing import Any

from speedprof.mitigations.applied.models import (
    around_forward,
    exchanging,
    tried,
    when_trained,
)
from speedprof.mitigations.applied.process import Applied, Process

IMAGES = 4  # dimensions: samples, channels, height, width
# Without the argument it copies gradients between strides of before and of now, number by number
BUCKETS = (
    "the buckets of DistributedDataParallel were built for it; convert the model before, or build "
    "it with gradient_as_bucket_view=True (ddp-buckets does)"
)


def apply(process: Process, one: Applied) -> None:
    """Convert the model before its second forward pass in training, and its images from then on.

    The first pass has begun when the model is found, and could not be taken back.
    """
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    optimizers: weakref.WeakSet[Any] = weakref.WeakSet()

    def see(optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        if optimizer not in optimizers:
            optimizers.add(optimizer)
            _follow(optimizer)

    def adopt(model: Any) -> None:
        import torch

        if not any(isinstance(module, torch.nn.Conv2d) for module in model.modules()):
            one.note(f"{type(model).__name__} has no Conv2d, so its layout stays")
            return
        ranks = exchanging(model)
        if ranks is not None and not ranks.gradient_as_bucket_view:
            one.note(f"{type(model).__name__} keeps its layout: {BUCKETS}")
            return
        layout = _Layout(process, one, model, optimizers)
        around_forward(process, one, model, layout.forward, "convert images")

    handle = register_optimizer_step_pre_hook(process.fence.guard(f"remedy {one.name}: step", see))
    process.patches.hook(handle, "torch.optim.Optimizer", reason=f"{one.name}: its layouts")
    when_trained(process, one, adopt)


class _Layout:
    """The layout of one model, changed for as long as its forward goes with that."""

    def __init__(
        self, process: Process, one: Applied, model: Any, optimizers: weakref.WeakSet[Any]
    ) -> None:
        self._process, self._one, self._optimizers = process, one, optimizers
        self._model = weakref.ref(model)
        self._convert = process.fence.guard(f"remedy {one.name}: convert", self._to_last)
        self._last = self._given_up = self._told = False

    def forward(self, original: Any, module: Any, *arguments: Any, **keywords: Any) -> Any:
        import torch

        own = functools.partial(original, module, *arguments, **keywords)
        compiling = torch.compiler.is_compiling()
        if not self._last and not self._given_up and not compiling:
            self._convert()
        if not self._last:
            return own()
        changed = functools.partial(original, module, *map(_images_last, arguments), **keywords)
        if compiling:
            return changed()

        def as_before() -> Any:
            self._back()
            return own()

        return tried(changed, as_before, self._give_up)

    def _to_last(self) -> None:
        import torch

        self._lay(torch.channels_last)
        self._last = True
        if not self._told:
            self._told = True
            self._one.effects += 1
            name = type(self._model()).__name__
            self._process.changed(f"{name}.parameters: {self._one.name}", self._back)

    def _back(self) -> None:
        import torch

        if self._last:
            self._last = False
            self._lay(torch.contiguous_format)

    def _give_up(self, why: str) -> None:
        """Leave the model be: `view` asks for rows one after the other, for one."""
        self._given_up = True
        self._one.effects -= 1
        name = type(self._model()).__name__
        self._one.note(f"{name} fails with channels last and keeps its layout: {why}")

    def _lay(self, layout: Any) -> None:
        model = self._model()
        if model is not None:
            model.to(memory_format=layout)
            for optimizer in self._optimizers:
                _follow(optimizer)


def _follow(optimizer: Any) -> None:
    """Lay an optimizer's numbers out like its parameters: fused ones go through both in memory."""
    import torch

    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.dim() != IMAGES:
                continue
            state = optimizer.state.get(parameter, {})
            for name, value in list(state.items()):
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    state[name] = _like(value, parameter)
            if parameter.grad is not None:
                parameter.grad = _like(parameter.grad, parameter)


def _like(value: Any, parameter: Any) -> Any:
    """Return a tensor with the strides of a parameter: itself, or a copy."""
    import torch

    if value.layout != torch.strided or value.stride() == parameter.stride():
        return value
    with torch.no_grad():
        return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _images_last(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor) and value.dim() == IMAGES:
        return value.contiguous(memory_format=torch.channels_last)
    return value
