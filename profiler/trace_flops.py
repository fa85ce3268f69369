"""The FLOPs of a whole trace's operators, where one operator tells what another left out.

PyTorch before 2.0 recorded shapes without strides, so that a convolution's own record does not
tell the size of its output. Its backward pass does: the gradient has that size. An input and a
weight that occur with two sizes of output (another stride) say nothing. The gradient of a weight
does not tell the weight's size; the backward pass around it does.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from speedprof.profiler import flops
from speedprof.profiler.flops import convolution, convolved, shapes_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from speedprof.profiler.flops import Shape

    Column = Sequence[int] | NDArray[Any]

_Fixed = tuple[int, ...]

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
_AROUND = frozenset(f"{name}_backward" for name in _FORWARD)
_LAST = b"\xff"  # behind all JSON
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
        self._around: list[tuple[int, bytes]] = []
        self._once: dict[bytes, bytes] = {}  # so that equal shapes are kept once
        self._outputs: dict[tuple[_Fixed, _Fixed], set[_Fixed]] = {}
        self._shapes: dict[bytes, list[Shape]] = {}

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
            self._open.append((event, name, self._once.setdefault(dims, dims)))
        elif name in _AROUND:
            self._around.append((event, self._once.setdefault(dims, dims)))

    def all(self, thread: Column, start: Column) -> dict[int, int]:
        """Return the FLOPs by event; events whose FLOPs cannot be known are left out.

        `thread` and `start` are those of all events.
        """
        around = [(int(thread[event]), int(start[event]), dims) for event, dims in self._around]
        around.sort()
        for event, name, dims in self._open:
            moment = (int(thread[event]), int(start[event]), _LAST)
            before = bisect_right(around, moment) - 1
            outer = around[before] if before >= 0 else None
            known = outer is not None and outer[0] == moment[0]
            count = self._told(name, dims, outer[2] if outer and known else b"")
            if count is not None:
                self._found[event] = count
        self._open.clear()
        return {event: count for event, count in self._found.items() if count}

    def _learn(self, name: str, dims: bytes) -> None:
        order = _BACKWARD.get(name)
        shapes = self._of(dims) if order else []
        if order is None or len(shapes) < 3 or not convolved(shapes[:3]):
            return
        gradient, given, weight = (tuple(shapes[place]) for place in order)
        self._outputs.setdefault((given, weight), set()).add(gradient)

    def _told(self, name: str, dims: bytes, around: bytes) -> int | None:
        shapes = self._of(dims)
        if len(shapes) < (2 if name in _FORWARD else 3):
            return None
        gradient, weight = shapes[1], shapes[2] if len(shapes) > 2 else []
        if name in _FORWARD:
            outputs = self._outputs.get((tuple(shapes[0]), tuple(shapes[1])), set())
            gradient = list(next(iter(outputs))) if len(outputs) == 1 else []
            weight = shapes[1]
        elif name in _GRADIENT_OF_WEIGHT:
            outer = self._of(around)  # (input, gradient, weight, ...)
            fits = outer[:2] == [shapes[2], gradient] and len(outer) > 2
            weight = outer[2] if fits else []
        if not convolved([gradient, weight]):
            return None
        count = convolution(weight, gradient)
        return count if count < flops.MOST else None

    def _of(self, dims: bytes) -> list[Shape]:
        if dims not in self._shapes:
            self._shapes[dims] = shapes_of(_decoded(dims))
        return self._shapes[dims]


def _decoded(text: bytes) -> object:
    try:
        return msgspec.json.decode(text) if text else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
