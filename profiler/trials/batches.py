"""Copies of batches: what is kept is ours alone, what is handed out is the script's alone.

Tensors are cloned (into pinned memory where they lie there), arrays and containers copied. Tensors
have a counter of changes in place, but writes through `.data`, `.numpy()` or a kernel of the
script's own pass it by, so nothing is handed out twice: every hand-out is a fresh copy, and its
cost is measured. Objects that nobody can copy are handed out as they are, and named.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

UNCOPYABLE = (TypeError, ValueError, AttributeError, RuntimeError, copy.Error, ImportError)
PLAIN = (str, bytes, int, float, complex, bool, type(None), range, slice)


class Copier:
    """Copies nested batches, and remembers the kinds of objects that it could not copy."""

    def __init__(self) -> None:
        self.uncopied: set[str] = set()
        self.used_up: str | None = None  # an object that gives what it holds only once

    def copy(self, batch: Any) -> Any:
        """Return a batch that shares no memory with the one given, as far as can be."""
        return self._copy(batch, {})

    def _copy(self, value: Any, known: dict[int, Any]) -> Any:
        if isinstance(value, PLAIN):
            return value
        if id(value) in known:  # one tensor in two places stays one tensor
            return known[id(value)]
        known[id(value)] = made = self._fresh(value, lambda part: self._copy(part, known))
        return made

    def _fresh(self, value: Any, part: Callable[[Any], Any]) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            return clone(value)
        if type(value) is dict:
            return {key: part(entry) for key, entry in value.items()}
        if type(value) in (list, set):
            return type(value)(map(part, value))
        if isinstance(value, tuple):
            parts = [part(entry) for entry in value]
            return value._make(parts) if hasattr(value, "_make") else _tuple(type(value), parts)
        return self._object(value, part)

    def _object(self, value: Any, part: Callable[[Any], Any]) -> Any:
        if isinstance(value, Iterator):
            self.used_up = type(value).__name__
            return value
        try:
            if isinstance(value, Mapping) and hasattr(value, "__setitem__"):
                made = copy.copy(value)  # a dictionary of a library's own, with what else it holds
                for key in value:
                    made[key] = part(value[key])
                return made
            if callable(getattr(value, "clone", None)):
                return value.clone()
            return copy.deepcopy(value)
        except UNCOPYABLE:
            self.uncopied.add(type(value).__name__)
            return value


def clone(tensor: Any) -> Any:
    """Return a tensor's copy with no history, as pinned as it was."""
    import torch

    with torch.no_grad():
        if tensor.layout is torch.strided and not tensor.is_nested and _pinned(tensor):
            return torch.empty_like(tensor, pin_memory=True).copy_(tensor)
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def leaves(batch: Any) -> list[Any]:
    """Return the tensors in a batch, always in the same order."""
    import torch

    if isinstance(batch, torch.Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [leaf for key in batch for leaf in leaves(batch[key])]
    if isinstance(batch, (list, tuple)):
        return [leaf for part in batch for leaf in leaves(part)]
    held = getattr(batch, "__dict__", None)
    return [leaf for part in held.values() for leaf in leaves(part)] if held else []


def size(batch: Any) -> int:
    """Return the bytes of a batch's tensors."""
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves(batch))


def _pinned(tensor: Any) -> bool:
    return bool(tensor.device.type == "cpu" and tensor.is_pinned())


def _tuple(kind: type, parts: list[Any]) -> Any:
    return tuple(parts) if kind is tuple else kind(*parts)
