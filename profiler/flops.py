"""How many floating-point operations an operator did, from the shapes that a trace recorded.

Two for each multiply-add, as `torch.utils.flop_counter` counts them; additions of a bias,
softmax and everything elementwise are left out. Counted are the operators at the bottom of the
dispatcher that every PyTorch since 1.8 records: `aten::mm` and its kin (`aten::linear` and
`aten::matmul` end in them), `aten::convolution` and what is below it, the fused kinds of
`scaled_dot_product_attention` (the others end in `aten::bmm`). One may hold another, so whoever
adds up counts the outermost alone.

Where this differs from PyTorch's counter: a causal mask halves attention (its kernels skip what
is masked; so Dao 2023, FlashAttention-2, section 4.1, counts), and the gradient of a grouped
convolution's weight is as much work as its forward pass (PyTorch's formula leaves `groups` out).
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Shape = list[int]
    # shapes of the inputs ([] for what is no tensor), their values as text ("" for tensors)
    Formula = Callable[[list[Shape], Sequence[str]], "int | None"]

MOST = 10**17  # minutes of the fastest device: a larger number of one operator is damage
_WHOLE = re.compile(r"-?\d{1,18}")
_LIST = re.compile(r"\[(\s*-?\d{1,18}\s*(,\s*-?\d{1,18}\s*)*)?\]")


def flops(name: str, dims: object, concrete: object = None) -> int | None:
    """Return the FLOPs of one call of an operator; None where they cannot be known.

    `dims` is Kineto's "Input Dims" and `concrete` its "Concrete Inputs", whatever they hold.
    """
    formula = _FORMULAS.get(name)
    if formula is None:
        return None
    shapes = shapes_of(dims)
    values = concrete if isinstance(concrete, list) else []
    said = [value if isinstance(value, str) else "" for value in values]
    found = formula(shapes, said)
    return found if found is not None and found < MOST else None


def shapes_of(dims: object) -> list[Shape]:
    """Return the shapes, [] for each input that is no tensor (a list of tensors is none)."""
    listed = dims if isinstance(dims, list) else []
    return [one if _is_shape(one) else [] for one in listed]


def _is_shape(one: object) -> bool:
    return isinstance(one, list) and all(type(size) is int and size >= 0 for size in one)


def _mm(shapes: list[Shape], _: Sequence[str]) -> int | None:
    """Count [m, k] x [k, n], alone or in batches."""
    if len(shapes) < 2:
        return None
    left, right = shapes[0], shapes[1]
    if len(left) != len(right) or len(left) not in (2, 3):
        return None
    if left[-1] != right[-2] or left[:-2] != right[:-2]:
        return None
    return 2 * prod(left) * right[-1]


def _addmm(shapes: list[Shape], said: Sequence[str]) -> int | None:
    return _mm(shapes[1:], said)


def _grouped_mm(shapes: list[Shape], said: Sequence[str]) -> int | None:
    """Count matrices of which one dimension is shared out over the groups."""
    if len(shapes) >= 2 and {len(shapes[0]), len(shapes[1])} == {2, 3}:
        return _mm([shapes[0][-2:], shapes[1][-2:]], said)
    return _mm(shapes, said)


def convolved(shapes: Sequence[Sequence[int]]) -> bool:
    """Tell whether these can be the input or output and the weight of one convolution."""
    dimensions = {len(shape) for shape in shapes}
    return len(dimensions) == 1 and dimensions <= {3, 4, 5}


def convolution(weight: Sequence[int], swept: Sequence[int]) -> int:
    """Count one pass, by the tensor whose points the weight is applied to.

    That is the output, or the input of a transposed convolution. The weight's second dimension
    is divided by the groups already.
    """
    return 2 * swept[0] * prod(swept[2:]) * prod(weight)


def _forward(shapes: list[Shape], said: Sequence[str]) -> int | None:
    """Count `(input, weight, bias, stride, padding, dilation, transposed, ...)`."""
    if len(said) < 7 or len(shapes) < 2 or not convolved(shapes[:2]):
        return None
    given, weight = shapes[0], shapes[1]
    if said[6] == "True":
        return convolution(weight, given)
    steps, padding, dilation = (_sizes(said[place], len(given) - 2) for place in (3, 4, 5))
    if said[6] != "False" or steps is None or padding is None or dilation is None:
        return None
    if 0 in steps:
        return None
    points = [
        (size + 2 * pad - spread * (extent - 1) - 1) // step + 1
        for size, extent, step, pad, spread in zip(
            given[2:], weight[2:], steps, padding, dilation, strict=True
        )
    ]
    return convolution(weight, [given[0], 0, *points]) if min(points) >= 0 else None


def _backward(shapes: list[Shape], said: Sequence[str]) -> int | None:
    """Count the gradients that the mask asks for: `(gradient, input, weight, ..., mask)`."""
    if len(said) < 11 or len(shapes) < 3 or not convolved(shapes[:3]):
        return None
    transposed, mask = said[7], re.findall(r"True|False", said[10])
    if transposed not in ("True", "False") or len(mask) != 3:
        return None
    gradient, given, weight = shapes[:3]
    one = convolution(weight, given if transposed == "True" else gradient)
    return one * mask[:2].count("True")


def _sizes(text: str, dimensions: int) -> list[int] | None:
    """Return a list of sizes, one value standing for all dimensions."""
    if _LIST.fullmatch(text) is None:
        return None
    sizes = [int(size) for size in _WHOLE.findall(text)]
    sizes = sizes * dimensions if len(sizes) == 1 else sizes
    return sizes if len(sizes) == dimensions and min(sizes) >= 0 else None


def _attention(first: int, causal: int, products: tuple[int, int]) -> Formula:
    """Make the formula of one of the fused kinds.

    `first` is the place of the query and `causal` that of the mask's switch. `products` says
    how many matrix products go over the query's and over the value's depth: one each forward;
    backward three (scores again, their gradients to query and key) and two.
    """

    def formula(shapes: list[Shape], said: Sequence[str]) -> int | None:
        tensors = shapes[first : first + 3]
        if len(tensors) < 3 or {len(shape) for shape in tensors} != {4} or len(said) <= causal:
            return None
        (batch, heads, queries, depth), key, value = tensors
        if key[3] != depth or key[2] != value[2]:
            return None
        pairs = queries * key[2]
        if said[causal] == "True":
            if queries != key[2]:
                return None  # where the mask begins then is the kernel's own affair
            pairs = queries * (queries + 1) // 2
        elif said[causal] != "False":
            return None
        return 2 * batch * heads * pairs * (products[0] * depth + products[1] * value[3])

    return formula


_ONCE, _BACK = (1, 1), (3, 2)
_SDPA = "aten::_scaled_dot_product"
_ATTENTION: dict[str, Formula] = {
    f"{_SDPA}_flash_attention": _attention(0, 4, _ONCE),
    f"{_SDPA}_flash_attention_backward": _attention(1, 11, _BACK),
    f"{_SDPA}_flash_attention_for_cpu": _attention(0, 4, _ONCE),
    f"{_SDPA}_flash_attention_for_cpu_backward": _attention(1, 7, _BACK),
    f"{_SDPA}_efficient_attention": _attention(0, 6, _ONCE),
    f"{_SDPA}_efficient_attention_backward": _attention(1, 11, _BACK),
    f"{_SDPA}_cudnn_attention": _attention(0, 6, _ONCE),
    f"{_SDPA}_cudnn_attention_backward": _attention(1, 14, _BACK),
}
_PRODUCTS: dict[str, Formula] = {
    **dict.fromkeys(("aten::mm", "aten::bmm", "aten::_scaled_mm"), _mm),
    **dict.fromkeys(("aten::addmm", "aten::addmm_", "aten::_addmm_activation"), _addmm),
    **dict.fromkeys(("aten::baddbmm", "aten::baddbmm_"), _addmm),
    **dict.fromkeys(("aten::_grouped_mm", "aten::_scaled_grouped_mm"), _grouped_mm),
}
_WITH_STRIDES: dict[str, Formula] = {
    "aten::convolution": _forward,
    "aten::_convolution": _forward,
    "aten::convolution_backward": _backward,
}
_FORMULAS = _PRODUCTS | _ATTENTION | _WITH_STRIDES

COUNTED = frozenset(_FORMULAS)  # of other operators nothing is known without their neighbours
