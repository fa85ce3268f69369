"""What DistributedDataParallel exchanges, exchanged by us where it did not do so itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CHUNK = 25 * 2**20  # bytes sent at once: DDP's own bucket


def trained(model: Any) -> list[Any]:
    """Return the parameters whose gradients this DistributedDataParallel exchanges, in order."""
    ignored = getattr(model, "parameters_to_ignore", ())
    named = model.module.named_parameters()
    return [p for name, p in named if p.requires_grad and name not in ignored]


def average(model: Any, dtype: Any = None) -> None:
    """Average over the ranks what each of them has gathered; `dtype` travels, None: their own.

    A parameter that got a gradient on some ranks only counts as zeros on the others; one that got
    none anywhere keeps none. Every rank has to call this, with the same parameters.
    """
    import torch

    parameters = trained(model)
    with torch.no_grad():
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        counts = _sum(used.to(model.device), model.process_group).tolist()
        gathered = []
        for parameter, count in zip(parameters, counts, strict=True):
            if count and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if count:
                gathered.append(parameter.grad)
        for chunk in _chunks(gathered):
            _average(chunk, model.process_group, dtype)


def all_agree(model: Any, numbers: tuple[int, ...]) -> bool:
    """Tell whether all ranks say these same numbers; every rank has to ask."""
    import torch
    from torch import distributed

    told = torch.tensor([*numbers, *(-one for one in numbers)], device=model.device)
    distributed.all_reduce(told, op=distributed.ReduceOp.MIN, group=model.process_group)
    found: list[int] = told.tolist()
    return found[: len(numbers)] == [-one for one in found[len(numbers) :]]


def _average(chunk: list[Any], group: Any, dtype: Any) -> None:
    import torch

    flat = torch.cat([one.reshape(-1) for one in chunk])
    sent = flat.to(dtype or flat.dtype).div_(group.size())  # before the sum, as DDP does
    pieces = _sum(sent, group).split([one.numel() for one in chunk])
    for gradient, piece in zip(chunk, pieces, strict=True):
        gradient.copy_(piece.view(gradient.shape))


def _sum(values: Any, group: Any) -> Any:
    from torch import distributed

    distributed.all_reduce(values, group=group)
    return values


def _chunks(gradients: list[Any]) -> Iterator[list[Any]]:
    """Return neighbours of one type, of at most `CHUNK` bytes where several are sent at once."""
    chunk: list[Any] = []
    size = 0
    for one in gradients:
        alike = not chunk or (one.dtype, one.device) == (chunk[0].dtype, chunk[0].device)
        if chunk and (not alike or size + one.nbytes > CHUNK):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += one.nbytes
    if chunk:
        yield chunk
