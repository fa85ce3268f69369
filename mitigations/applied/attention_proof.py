"""Whether a rewritten forward computes what the module's own does, on one real call."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.applied.models import aside
from speedprof.mitigations.applied.twins import (
    Call,
    fresh,
    same_random,
    tensors,
    twin,
    undropped,
)

# Of the largest value. Sums in another order moved float32 by 1e-6 to 1e-5 where we looked; a
# wrong mask or scale moves it by a tenth and more.
SAME = 1e-4
# bfloat16 has 8 bits of mantissa, TF32 and float16 have 11: a few roundings one after the other.
ROUNDED = 3e-2


def difference(module: Any, own: Any, other: Any, call: Call) -> str | None:
    """Return how two forwards of a module differ in outputs or gradients; None where they agree.

    Both run on twins without dropout, under the autocast that is in force.
    """
    with aside():
        expected, got = _run(module, own, call), _run(module, other, call)
    if len(expected) != len(got):
        return "it returns something else"
    most = _tolerance(call)
    for (name, first), (_, second) in zip(expected, got, strict=True):
        apart = _apart(first, second)
        if not apart <= most:
            return f"{name} differ by {apart:.2g} of the largest, {most:g} is allowed"
    return None


def _run(module: Any, forward: Any, call: Call) -> list[tuple[str, Any]]:
    """Return what a forward gives, and the gradients of all that it was given."""
    import torch

    held, (arguments, keywords) = twin(module), fresh(call)

    def as_it_is(tensor: Any) -> Any:
        return tensor

    # the hooks of somebody's checkpoint around us are not to see what is kept for our backward
    apart = torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is)
    with torch.enable_grad(), same_random(call), undropped(), apart:
        made = tensors(forward(held, *arguments, **keywords))
        wanting = [t for t in tensors((arguments, keywords)) if t.requires_grad]
        wanting += [p for p in held.parameters() if p.requires_grad]
        ends = [t for t in made if t.requires_grad]
        found = [("outputs", tensor.detach()) for tensor in made]
        if wanting and ends:
            total = sum((t.float() * _weights(t)).sum() for t in ends)
            gradients = torch.autograd.grad(total, wanting, allow_unused=True)
            found += [("gradients", gradient) for gradient in gradients]
    return found


def _weights(tensor: Any) -> Any:
    """Return a weight for each number, so that gradients differ from each other."""
    import torch

    count = tensor.numel()
    return torch.linspace(-1.0, 1.0, count, device=tensor.device).view(tensor.shape)


def _apart(first: Any, second: Any) -> float:
    """Return the largest difference as a part of the largest value; infinite for other kinds."""
    if first is None or second is None:
        return 0.0 if first is second else float("inf")
    if first.shape != second.shape or first.dtype != second.dtype:
        return float("inf")
    if not first.numel():
        return 0.0
    first, second = first.float(), second.float()
    largest = first.abs().max().clamp(min=1e-12)
    return float((first - second).abs().max() / largest)


def _tolerance(call: Call) -> float:
    import torch

    given = [tensor for tensor in tensors(call) if tensor.is_floating_point()]
    whole = all(tensor.dtype in (torch.float32, torch.float64) for tensor in given)
    kinds = {tensor.device.type for tensor in given}
    cast = any(torch.is_autocast_enabled(kind) for kind in kinds)
    rough = torch.get_float32_matmul_precision() != "highest"
    return SAME if whole and not cast and not rough else ROUNDED
