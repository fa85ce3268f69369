"""What kind of work an operator is, by its name, and which limit of the hardware that meets."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

from speedprof.profiler.device_peaks import REACHED
from speedprof.profiler.intervals import Times

KINDS = (
    "matmul",
    "convolution",
    "attention",
    "normalisation",
    "elementwise",
    "reduction",
    "optimizer",
    "copy",
    "other",
)
# The first that matches counts; names are those of ATen, cuBLAS, cuDNN, CUTLASS, oneDNN, Triton,
# fbgemm, and of ROCm's Tensile (Cijk_), Composable Kernel (ck) and MIOpen. The first four take
# what would be taken for something else: a fused Triton kernel is called after all that it holds,
# even the convolution whose output it goes over; an embedding's update after its optimizer.
_PATTERNS = (
    ("copy", r"split_embedding|table_batched_embedding|permute_pooled_embs|_indices_kernel"),
    ("normalisation", r"triton_(per|red)_.*norm"),
    ("reduction", r"triton_(per|red)_"),
    ("elementwise", r"triton_poi_|lstm_element|elemwisernn"),
    ("attention", r"attention|sdpa|flash_|flashattn|fmha|mha_|attn_|(^|_)bwd_kernel_(dk|dq|fuse)"),
    ("optimizer", r"multi_tensor_apply|_fused_(adam|sgd|adagrad)|adam|(^|_)lamb(_|$)"),
    ("normalisation", r"norm|bn_(fw|bw)|welford|gammabeta"),
    (
        "convolution",
        (
            r"conv(?!ert)|cudnn.*(fprop|dgrad|wgrad)|implicit_gemm|winograd|(dgrad|wgrad|fprop)_"
            r"|(^|_)[sh](884|1688|16816)?cudnn_|igemm_(fwd|bwd|wrw)_|xdl\w*_bwd_(weight|data)"
            r"|fft[12]d_(r2c|c2r)|pointwise_mult_and_sum|im2col|col2im|computeoffsets"
        ),
    ),
    (
        "matmul",
        (
            r"(?<!fb)gemm|gemv|cublas|cutlass|matmul|addmm|addbmm|baddbmm"
            r"|(^|::)_?(mm|bmm|mv|dot)\b"
            r"|(^|[^a-z])b?mmbackward|::linear|lstm|_gru|gru_|persistrnn|einsum|mkldnn_rnn|xmma"
            r"|(^|_)cijk_|nvjet_|splitkreduce|triton_tem_.*mm"
        ),
    ),
    (
        "reduction",
        (
            r"(^|::)_?(sum|mean|max|min|amax|amin|argmax|argmin|var|std|topk|sort|cumsum|all|any"
            r"|prod)\b|reduce|softmax|cross_entropy|loss|logsumexp|radixsort|scan"
        ),
    ),
    (
        "copy",
        (
            r"copy|contiguous|clone|memcpy|memset|::to$|::cat\b|catarray"
            r"|stack|index|gather|scatter"
            r"|embedding|fill_|zero_|zeros|ones|::full|::pad|::roll"
            r"|repeat|flip|nchwtonhwc|nhwctonchw"
            r"|batched_transpose|transpose_(nchw|cnhw)|subtensorop"
            r"|compute_grad_weight|fbgemm(_gpu)?::"
        ),
    ),
    (
        "elementwise",
        (
            r"elementwise"
            r"|::(_?foreach_)?(add|sub|mul|div|pow|sqrt|rsqrt|exp|log|neg|abs|clamp|relu"
            r"|silu|tanh|where|bernoulli|threshold|lerp|addcmul|addcdiv"
            r"|sin|cos|erf|elu|masked_fill"
            r"|uniform|normal|random|eq|ne|lt|gt|le|ge|adaptive|upsample|interpolate)|pool|dropout"
            r"|relu|gelu|sigmoid|(tanh|mul|add|sub|div|pow)backward|triton_|vectorized|activation"
            r"|accumulategrad|scalepackedtensor|op_?tensor"
        ),
    ),
)
_COMPILED = [(kind, re.compile(pattern)) for kind, pattern in _PATTERNS]

# Multiply-accumulates per byte grow with the size of the operands for these, so large ones
# wait for arithmetic units; the others touch each value once or a few times (roofline model).
ARITHMETIC = ("matmul", "convolution", "attention")
_BANDWIDTH = ("normalisation", "elementwise", "reduction", "optimizer", "copy")
DOMINATES = 0.6  # of the time whose kind is known; below it neither limit explains the phase
KNOWN = 0.5  # of the time; where less has a known kind nothing is said


@lru_cache(maxsize=8192)
def kind(name: str) -> str:
    """Return the kind of an operator or kernel, "other" where the name does not tell."""
    lowered = name.lower()
    for found, pattern in _COMPILED:
        if pattern.search(lowered):
            return found
    return "other"


def bound(times: Mapping[str, float], of_peak: Mapping[str, float] | None = None) -> str | None:
    """Tell from time per kind what limits compute: "arithmetic", "memory_bandwidth" or None.

    `of_peak` is what part of the device's roof a kind was measured to reach, where it was: one
    that stays far below it is not limited by arithmetic, whatever its name.
    """
    reached = of_peak or {}
    products = sum(times.get(name, 0.0) for name in ARITHMETIC)
    arithmetic = sum(
        times.get(name, 0.0) for name in ARITHMETIC if reached.get(name, 1.0) >= REACHED
    )
    bandwidth = sum(times.get(name, 0.0) for name in _BANDWIDTH)
    known, whole = products + bandwidth, sum(times.values())
    if whole <= 0 or known < KNOWN * whole:
        return None
    if arithmetic >= DOMINATES * known:
        return "arithmetic"
    return "memory_bandwidth" if bandwidth >= DOMINATES * known else None


def self_times(thread: Times, start: Times, end: Times) -> tuple[Times, Times]:
    """Return each event's time without the events nested in it, and its depth (0: outermost).

    Events of one thread nest properly; one that sticks out of its parent by the clock's
    rounding counts as nested.
    """
    own = (end - start).astype(np.int64)
    depth = np.zeros(len(own), np.int64)
    order = np.lexsort((-end, start, thread)).tolist()
    threads, starts, ends = thread.tolist(), start.tolist(), end.tolist()
    inside: list[int] = []
    current = None
    children = [0] * len(own)
    depths = [0] * len(own)
    for index in order:
        if threads[index] != current:
            current, inside = threads[index], []
        begin = starts[index]
        while inside and ends[inside[-1]] <= begin:
            inside.pop()
        depths[index] = len(inside)
        if inside:
            parent = inside[-1]
            children[parent] += min(ends[index], ends[parent]) - begin
        inside.append(index)
    depth[:] = depths
    return np.maximum(own - np.asarray(children, np.int64), 0), depth
