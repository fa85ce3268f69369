"""Whether a rewritten forward computes what the module's own does, on one real call."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from speedprof.mitigations.applied.models import aside
from speedprof.mitigations.applied.twins import (
    Call,
    each,
    fresh,
    same_random,
    tensors,
    twin,
    undropped,
)

# Of the largest value. In float32, sums in another order moved values by 1e-6 to 1e-5 where we
# looked; a wrong mask or scale moves them by a tenth and more.
SAME = 1e-4
# bfloat16 has 8 bits of mantissa, TF32 and float16 have 11: a few roundings one after the other.
ROUNDED = 3e-2


def difference(module: Any, own: Any, other: Any, call: Call) -> str | None:
    """Return how two forwards of a module differ in outputs or gradients; None where they agree.

    Both run on twins without dropout: as the training does, and in float32 where it rounds more.
    """
    with aside():
        rounded = _rounds(module, call)
        apart = _compared(module, own, other, call, rounded=rounded)
        if apart is None and rounded:
            with _whole():
                apart = _compared(module, own, other, _in_float32(call), rounded=False)
    return apart


def _compared(module: Any, own: Any, other: Any, call: Call, *, rounded: bool) -> str | None:
    most = ROUNDED if rounded else SAME
    (expected, slopes), (got, others) = _run(module, own, call), _run(module, other, call)
    if [(t.shape, t.dtype) for t in expected] != [(t.shape, t.dtype) for t in got]:
        return "it returns something else"
    for apart in map(_apart, expected, got):
        if not apart <= most:  # so that no number is no agreement
            return f"outputs differ by {apart:.2g} of the largest, {most:g} is allowed"
    # rounded gradients tell less: some, as that of a bias of all keys, are nothing but rounding
    apart = 0.0 if rounded else _distance(slopes, others)
    if not apart <= most:
        return f"gradients differ by {apart:.2g} of their norm, {most:g} is allowed"
    return None


def _run(module: Any, forward: Any, call: Call) -> tuple[list[Any], list[Any]]:
    """Return what a forward gives, and the gradients of all that it was given."""
    import torch

    held, (arguments, keywords) = twin(module), fresh(call)
    if _halves(held.parameters()) and not _halves(tensors(call)):
        held.float()  # its own weights: those of the module stay

    def as_it_is(tensor: Any) -> Any:
        return tensor

    # the hooks of somebody's checkpoint around us are not to see what is kept for our backward
    apart = torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is)
    with torch.enable_grad(), same_random(call), undropped(), apart:
        made = tensors(forward(held, *arguments, **keywords))
        wanting = [t for t in tensors((arguments, keywords)) if t.requires_grad]
        wanting += [p for p in held.parameters() if p.requires_grad]
        ends = [t for t in made if t.requires_grad]
        slopes: list[Any] = []
        if wanting and ends:
            total = sum((t.float() * _weights(t)).sum() for t in ends)
            slopes += torch.autograd.grad(total, wanting, allow_unused=True)
    return [tensor.detach() for tensor in made], slopes


def _in_float32(call: Call) -> Call:
    """Return a call whose tensors are float32 where they were in half precision."""

    def whole(tensor: Any) -> Any:
        return tensor.detach().float().requires_grad_(tensor.requires_grad)

    arguments, keywords = call

    def change(tensor: Any) -> Any:
        return whole(tensor) if _halves([tensor]) else tensor

    return each(arguments, change), each(keywords, change)


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Compute in full float32 meanwhile."""
    import torch

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with contextlib.ExitStack() as stack:
            for kind in ("cpu", "cuda"):
                stack.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _weights(tensor: Any) -> Any:
    """Return a weight for each number, so that gradients differ from each other."""
    import torch

    count = tensor.numel()
    return torch.linspace(-1.0, 1.0, count, device=tensor.device).view(tensor.shape)


def _apart(first: Any, second: Any) -> float:
    """Return the largest difference as a part of the largest value."""
    if not first.numel():
        return 0.0
    largest = first.float().abs().max().clamp(min=1e-12)
    return float((first.float() - second.float()).abs().max() / largest)


def _distance(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Return the norm of all differences as a part of that of all; infinite for other kinds."""
    if [one is None for one in first] != [one is None for one in second]:
        return float("inf")
    pairs = [(a.float(), b.float()) for a, b in zip(first, second, strict=True) if a is not None]
    whole = sum(float(a.square().sum()) for a, _ in pairs)
    apart = sum(float((a - b).square().sum()) for a, b in pairs)
    return math.sqrt(apart / max(whole, 1e-24))


def _rounds(module: Any, call: Call) -> bool:
    """Tell whether the training computes in less than float32."""
    import torch

    given = tensors(call)
    kinds = {tensor.device.type for tensor in given}
    cast = any(torch.is_autocast_enabled(kind) for kind in kinds)
    rough = torch.get_float32_matmul_precision() != "highest"
    return cast or rough or _halves([*given, *module.parameters()])


def _halves(values: Iterable[Any]) -> bool:
    import torch

    return any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in values)
