"""Tensors that a loader has pinned, and their copies to a GPU."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process

NO_GPU = "there is no GPU here, so no batch is copied to one"
UNPINNED = "no loader here pins its batches, and the rest are copied as before: apply pin-memory"


@dataclass(eq=False)
class Pass:
    """The tensors that one thread pins: those of one pass over a loader."""

    wanted: dict[int, Any] = field(default_factory=dict)  # device by place in the batch
    waiting: set[int] = field(default_factory=set)  # ids of what was copied and not asked for


@dataclass(eq=False)
class Pinned:
    """One pinned tensor, and where it came from."""

    tensor: weakref.ref[Any]
    source: Pass
    place: int  # among the tensors of its batch
    version: int  # torch counts what is written into it
    copy: Any = None
    ready: Any = None  # event behind the copy


class PinnedTensors:
    """What loaders have pinned and handed out, as long as the script holds it."""

    def __init__(self) -> None:
        self._known: dict[int, Pinned] = {}
        self._passes: weakref.WeakKeyDictionary[threading.Thread, Pass] = (
            weakref.WeakKeyDictionary()
        )
        self._local = threading.local()
        self.seen = False

    def __contains__(self, tensor: Any) -> bool:
        return id(tensor) in self._known

    def find(self, tensor: Any) -> Pinned | None:
        one = self._known.get(id(tensor))
        return one if one is not None and one.tensor() is tensor else None

    def pinning(self, original: Any, pinned: Callable[[Any, Pass, int], object]) -> Any:
        """Return torch's function that pins, which calls itself for what a batch consists of."""
        import torch

        local = self._local

        @functools.wraps(original)
        def pin_memory(*arguments: Any, **keywords: Any) -> Any:
            outermost = not getattr(local, "inside", False)
            if outermost:
                local.inside, local.place = True, 0
            try:
                out = original(*arguments, **keywords)
            finally:
                if outermost:
                    local.inside = False
            if isinstance(out, torch.Tensor):
                pinned(out, self._source(), local.place)
                local.place += 1
            return out

        return pin_memory

    def add(self, tensor: Any, source: Pass, place: int, gone: Any = None) -> Pinned:
        key = id(tensor)

        def forget(reference: Any) -> None:
            one = self._known.get(key)
            if one is not None and one.tensor is reference:
                del self._known[key]
                if gone is not None:
                    gone(one)

        one = Pinned(weakref.ref(tensor, forget), source, place, tensor._version)
        self._known[key] = one
        self.seen = True
        return one

    def _source(self) -> Pass:
        return self._passes.setdefault(threading.current_thread(), Pass())


def destination(tensor: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return the GPU that `tensor.to(...)` means; None for anything but a plain copy to one."""
    import torch

    if "copy" in keywords or "non_blocking" in keywords:
        return None  # the script has its own word on it
    try:
        device, dtype, _, layout = torch._C._nn._parse_to(*arguments, **keywords)
    except (TypeError, RuntimeError):
        return None  # torch says itself what is wrong
    if device is None or dtype not in (None, tensor.dtype) or layout is not None:
        return None
    return _gpu(device)


def cuda_destination(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return the GPU that `tensor.cuda(...)` means; None for anything but a plain copy to one."""
    import torch

    if len(arguments) > 1 or set(keywords) - {"device"}:
        return None
    device = arguments[0] if arguments else keywords.get("device")
    try:
        return _gpu(torch.device("cuda") if device is None else torch.device(device))
    except (TypeError, RuntimeError):
        return None


def _gpu(device: Any) -> Any:
    import torch

    if device.type != "cuda":
        return None
    return (
        device if device.index is not None else torch.device("cuda", torch.cuda.current_device())
    )


def around_copies(
    process: Process, one: Applied, tensors: PinnedTensors, copy: Callable[[Any, Any, Any], Any]
) -> None:
    """Ask `copy(original, tensor, device)` for plain copies of pinned tensors to a GPU.

    Where it returns None, the script's call goes its way.
    """
    import torch

    guarded = process.fence.guard(f"remedy {one.name}: copy", copy)
    original_to, original_cuda = torch.Tensor.to, torch.Tensor.cuda
    where = process.fence.guard(f"remedy {one.name}: where", destination)
    where_cuda = process.fence.guard(f"remedy {one.name}: where", cuda_destination)

    @functools.wraps(original_to)
    def to(tensor: Any, *arguments: Any, **keywords: Any) -> Any:
        if tensor in tensors:
            device = where(tensor, arguments, keywords)
            copied = None if device is None else guarded(original_to, tensor, device)
            if copied is not None:
                return copied
        return original_to(tensor, *arguments, **keywords)

    @functools.wraps(original_cuda)
    def cuda(tensor: Any, *arguments: Any, **keywords: Any) -> Any:
        if tensor in tensors:
            device = where_cuda(arguments, keywords)
            copied = None if device is None else guarded(original_to, tensor, device)
            if copied is not None:
                return copied
        return original_cuda(tensor, *arguments, **keywords)

    process.patches.replace(torch.Tensor, "to", to, reason=f"{one.name}: batches")
    process.patches.replace(torch.Tensor, "cuda", cuda, reason=f"{one.name}: batches")
