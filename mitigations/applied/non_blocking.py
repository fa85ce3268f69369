"""Copies of pinned batches to the GPU for which the host does not wait."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.applied.pinned_tensors import (
    NO_GPU,
    UNPINNED,
    Pass,
    PinnedTensors,
    around_copies,
)
from speedprof.mitigations.applied.process import Applied, Process


def apply(process: Process, one: Applied) -> None:
    """Copy what loaders have pinned with `non_blocking=True`.

    The stream that the script computes on runs the copy before what uses it, and torch does not
    give pinned memory to anyone else before the copy is done.
    """
    import torch
    from torch.utils.data import _utils

    if not torch.cuda.is_available():
        one.note(NO_GPU)
        return
    tensors = PinnedTensors()

    def pinned(tensor: Any, source: Pass, place: int) -> None:
        tensors.add(tensor, source, place)

    def copy(original: Any, tensor: Any, device: Any) -> Any:
        if tensor.requires_grad or tensors.find(tensor) is None:
            return None
        one.effects += 1
        return original(tensor, device, non_blocking=True)

    remember = process.fence.guard(f"remedy {one.name}: pinned", pinned)
    pin_memory = tensors.pinning(_utils.pin_memory.pin_memory, remember)
    process.patches.replace(
        _utils.pin_memory, "pin_memory", pin_memory, reason=f"{one.name}: what is pinned"
    )
    around_copies(process, one, tensors, copy)
    process.at_end.append(lambda: None if tensors.seen else one.note(UNPINNED))
