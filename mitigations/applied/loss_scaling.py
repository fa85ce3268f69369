"""Forward passes in float16, with a scaled loss whose gradients are unscaled at once.

What GradScaler asks a script to write is done around it: `backward` multiplies by the scale and
divides the gradients again before it returns, so that clipping and logging see true values; a
step whose gradients are not finite is left out, and the scale follows, with GradScaler's numbers.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from typing import Any

from speedprof.mitigations.applied.autocast import cast_models
from speedprof.mitigations.applied.process import Applied, Process

# GradScaler's defaults. Powers of two, so that scaling and unscaling float32 loses nothing.
START, GROWTH, BACKOFF, INTERVAL = 2.0**16, 2.0, 0.5, 2000
Grads = dict[tuple[Any, Any], list[Any]]  # by device and type


def apply(process: Process, one: Applied) -> None:
    """Run models under float16 autocast, and scale what is propagated backwards."""
    import torch
    from torch.optim.optimizer import (
        Optimizer,
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    scaling = _Scaling(one)
    cast_models(
        process, one, torch.float16, lambda _device: None,
        adopted=scaling.adopt, let_go=scaling.let_go,
    )  # fmt: skip
    process.patches.replace(
        torch.autograd, "backward", scaling.around(torch.autograd.backward),
        reason=f"{one.name}: scale, and unscale at once",
    )  # fmt: skip
    process.patches.replace(
        Optimizer, "add_param_group", _seeing(Optimizer.add_param_group, scaling.optimizers),
        reason=f"{one.name}: know what is trained",
    )  # fmt: skip
    process.patches.replace(
        torch.amp.GradScaler, "scale", scaling.leaving(torch.amp.GradScaler.scale),
        reason=f"{one.name}: see the script's own",
    )  # fmt: skip
    before = process.fence.guard(f"remedy {one.name}: step", scaling.before_step)
    after = process.fence.guard(f"remedy {one.name}: step", scaling.after_step)
    for handle in (
        register_optimizer_step_pre_hook(before),
        register_optimizer_step_post_hook(after),
    ):
        process.patches.hook(handle, "torch.optim.Optimizer", reason=f"{one.name}: step")
    process.at_end.append(scaling.tell)


def _seeing(original: Any, seen: weakref.WeakSet[Any]) -> Any:
    @functools.wraps(original)
    def add_param_group(optimizer: Any, *arguments: Any, **keywords: Any) -> Any:
        seen.add(optimizer)
        return original(optimizer, *arguments, **keywords)

    return add_param_group


class _Scaling:
    """The scale, and what came of the last backward pass."""

    def __init__(self, one: Applied) -> None:
        self._one = one
        self._models: weakref.WeakSet[Any] = weakref.WeakSet()
        self.optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._own = False  # the script scales by itself
        self._scale: Any = None  # these three lie on the device of the first loss
        self._growth: Any = None
        self._overflow: Any = None  # above 0 where a gradient was not finite
        self._skip: bool | None = None  # what comes of the steps until the next backward pass
        self._kept: dict[int, list[tuple[Any, Any]]] = {}  # gradients of steps that are left out
        self._skipped = self._steps = 0

    def adopt(self, model: Any) -> None:
        self._models.add(model)

    def let_go(self, model: Any) -> None:
        self._models.discard(model)

    def leaving(self, original: Any) -> Any:
        @functools.wraps(original)
        def scale(scaler: Any, outputs: Any) -> Any:
            if scaler.is_enabled() and not self._own:
                self._own = True
                self._one.note("the script has a GradScaler of its own, which scales the loss")
            return original(scaler, outputs)

        return scale

    def around(self, original: Any) -> Any:
        @functools.wraps(original)
        def backward(
            tensors: Any, grad_tensors: Any = None, *arguments: Any, **keywords: Any
        ) -> Any:
            losses = [tensors] if _is_tensor(tensors) else list(tensors)
            if not self._scales(losses, arguments, keywords):
                return original(tensors, grad_tensors, *arguments, **keywords)
            self._begin(losses[0].device)
            self._multiply(self._scale)
            try:
                scaled = self._scaled(losses, grad_tensors)
                return original(losses, scaled, *arguments, **keywords)
            finally:  # a script may catch what is raised, and go on with what it had
                self._unscale()

        return backward

    def _scales(self, losses: list[Any], arguments: Any, keywords: Any) -> bool:
        """Tell whether to scale: not for gradients of gradients, which are no leaves."""
        graph = arguments[1] if len(arguments) > 1 else keywords.get("create_graph", False)
        tensors = bool(losses) and all(map(_is_tensor, losses))
        return tensors and bool(self._models) and not self._own and not graph

    def _begin(self, device: Any) -> None:
        import torch

        if self._scale is None:
            self._scale = torch.full((), START, dtype=torch.float32, device=device)
            self._growth = torch.full((), 0, dtype=torch.int32, device=device)
            self._overflow = torch.full((), 0.0, dtype=torch.float32, device=device)
        if self._skip is not None:
            torch._amp_update_scale_(
                self._scale, self._growth, self._overflow, GROWTH, BACKOFF, INTERVAL
            )
            self._overflow.zero_()
            self._skip = None

    def _scaled(self, losses: list[Any], given: Any) -> list[Any]:
        import torch

        gradients = [None] * len(losses) if given is None else given
        if _is_tensor(gradients):
            gradients = [gradients]
        return [
            (torch.ones_like(loss) if gradient is None else gradient) * self._scale.to(loss.device)
            for loss, gradient in zip(losses, gradients, strict=True)
        ]

    def _multiply(self, by: Any) -> None:
        """Scale what earlier backward passes left: they add up with what is propagated now."""
        import torch

        for (device, _), gradients in self._gradients().items():
            torch._foreach_mul_(gradients, by.to(device))

    def _unscale(self) -> None:
        import torch

        inverse = self._scale.double().reciprocal().float()
        for (device, _), gradients in self._gradients().items():
            overflow = torch.zeros_like(self._overflow, device=device)
            torch._amp_foreach_non_finite_check_and_unscale_(
                gradients, overflow, inverse.to(device)
            )
            self._overflow += overflow.to(self._overflow.device)

    def _gradients(self) -> Grads:
        found: Grads = {}
        for parameter in self._parameters():
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                gradient = parameter.grad = gradient.coalesce()
                gradient = gradient._values()  # noqa: SLF001 - as GradScaler does
            found.setdefault((gradient.device, gradient.dtype), []).append(gradient)
        return found

    def _parameters(self) -> Iterator[Any]:
        seen: set[int] = set()
        groups = (group["params"] for one in self.optimizers for group in one.param_groups)
        for parameters in (*groups, *(model.parameters() for model in self._models)):
            for parameter in parameters:
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def before_step(self, optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        """Take the gradients away where they are not finite: the step then changes nothing."""
        if self._scale is None or self._own or not self._models:
            return
        if self._skip is None:
            self._skip = bool(self._overflow.item() > 0)
            self._steps += 1
            self._skipped += self._skip
        if self._skip:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._kept[id(optimizer)] = [(p, p.grad) for p in parameters]
            for parameter in parameters:
                parameter.grad = None

    def after_step(self, optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        for parameter, gradient in self._kept.pop(id(optimizer), ()):
            parameter.grad = gradient

    def tell(self) -> None:
        if self._skipped:
            self._one.note(
                f"{self._skipped} of {self._steps} steps were left out: their gradients were not "
                "finite at that scale"
            )


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
