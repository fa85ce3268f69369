"""The FLOPs of a whole trace's operators, where one operator tells what another left out.

PyTorch before 2.0 recorded shapes without strides, so that a convolution's own record does not
tell the size of its output. Its backward pass does: the gradient has that size. An input and a
weight that occur with two sizes of output (another stride) say nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from speedprof.profiler import flops
from speedprof.profiler.flops import convolution, convolved, shapes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speedprof.profiler.flops import Shape

_Fixed = tuple[int, ...]
_Known = dict[tuple[_Fixed, _Fixed], set[_Fixed]]

_VENDORS = ("cudnn", "miopen", "mkldnn")
# `aten::convolution` may be transposed without telling; these have another name then
_FORWARD = frozenset(f"aten::{vendor}_convolution" for vendor in _VENDORS)
_GRADIENT_OF_INPUT = frozenset(f"{name}_backward_input" for name in _FORWARD)
_GRADIENT_OF_WEIGHT = frozenset(
    f"{name}_backward_weight{plural}" for name in _FORWARD for plural in ("", "s")
)
# where the gradient, the input and the weight stand in a backward pass
_BACKWARD = {
    "aten::convolution_backward": (0, 1, 2),
    **{f"{name}_backward": (1, 0, 2) for name in _FORWARD},
}
_TOLD_BY_OTHERS = _FORWARD | _GRADIENT_OF_INPUT | _GRADIENT_OF_WEIGHT
COUNTED = flops.COUNTED | _TOLD_BY_OTHERS | frozenset(_BACKWARD)


class TraceFlops:
    """Counts operator by operator, and answers when it has seen them all.

    A training repeats its shapes step after step, so that each is worked out once.
    """

    def __init__(self) -> None:
        self._counted: dict[tuple[str, bytes, bytes], int | None] = {}
        self._found: dict[int, int] = {}
        self._open: list[tuple[int, str, bytes]] = []
        self._outputs: _Known = {}
        self._weights: _Known = {}

    def add(self, event: int, name: str, dims: bytes, concrete: bytes = b"") -> None:
        """Take an event of this operator; `dims` and `concrete` are JSON, or none at all."""
        if name not in COUNTED or not dims:
            return
        key = (name, dims, concrete)
        if key not in self._counted:
            self._counted[key] = flops.flops(name, _decoded(dims), _decoded(concrete))
            self._learn(name, dims)
        count = self._counted[key]
        if count is not None:
            self._found[event] = count
        elif name in _TOLD_BY_OTHERS:
            self._open.append((event, name, dims))

    def all(self) -> dict[int, int]:
        """Return the FLOPs by event; events whose FLOPs cannot be known are left out."""
        told: dict[tuple[str, bytes], int | None] = {}
        for event, name, dims in self._open:
            if (name, dims) not in told:
                told[name, dims] = self._told(name, shapes_of(_decoded(dims)))
            count = told[name, dims]
            if count is not None:
                self._found[event] = count
        self._open.clear()
        return {event: count for event, count in self._found.items() if count}

    def _learn(self, name: str, dims: bytes) -> None:
        order = _BACKWARD.get(name)
        shapes = shapes_of(_decoded(dims)) if order else []
        if order is None or len(shapes) < 3 or not convolved(shapes[:3]):
            return
        gradient, given, weight = (tuple(shapes[place]) for place in order)
        self._outputs.setdefault((given, weight), set()).add(gradient)
        self._weights.setdefault((given, gradient), set()).add(weight)

    def _told(self, name: str, shapes: list[Shape]) -> int | None:
        if len(shapes) < (2 if name in _FORWARD else 3):
            return None
        first, second, third = ((*shapes, [])[place] for place in range(3))
        if name in _FORWARD:
            gradient, weight = _only(self._outputs, first, second), second
        elif name in _GRADIENT_OF_INPUT:
            gradient, weight = second, third
        else:
            gradient, weight = second, _only(self._weights, third, second)
        if not convolved([gradient, weight]):
            return None
        count = convolution(weight, gradient)
        return count if count < flops.MOST else None


def _only(known: _Known, first: Sequence[int], second: Sequence[int]) -> Sequence[int]:
    """Return the only shape that was seen with these two; [] where there is none, or several."""
    found = known.get((tuple(first), tuple(second)), set())
    return next(iter(found)) if len(found) == 1 else []


def _decoded(text: bytes) -> object:
    try:
        return msgspec.json.decode(text) if text else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
