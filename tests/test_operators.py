"""Kinds of operators by name, their own time, and what limits them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler.operators import KINDS, bound, kind, self_times

EXAMPLES = {
    "matmul": [
        "aten::addmm", "aten::mm", "aten::bmm", "aten::linear", "AddmmBackward0", "MmBackward0",
        "autograd::engine::evaluate_function: AddmmBackward0", "ampere_sgemm_128x64_tn",
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16>",
    ],
    "convolution": [
        "aten::convolution", "aten::mkldnn_convolution", "ConvolutionBackward0",
        "cudnn::cnn::wgrad2d_grouped_direct_kernel", "sm80_xmma_fprop_implicit_gemm",
    ],
    "attention": [
        "aten::scaled_dot_product_attention", "aten::_flash_attention_forward",
        "fmha_cutlassF_f32_aligned",
    ],
    "normalisation": [
        "aten::native_batch_norm", "aten::native_layer_norm", "NativeLayerNormBackward0",
        "cudnn::bn_fw_tr_1C11_kernel_NCHW",
    ],
    "elementwise": [
        "aten::add", "aten::mul_", "aten::relu", "aten::gelu", "aten::threshold_backward",
        "aten::clamp_min", "aten::dropout", "aten::max_pool2d", "aten::_foreach_add_",
        "void at::native::vectorized_elementwise_kernel<4, float>",
    ],
    "reduction": [
        "aten::sum", "aten::mean", "aten::_log_softmax", "aten::nll_loss_forward",
        "aten::cross_entropy_loss", "void at::native::reduce_kernel<512, 1>",
    ],
    "optimizer": ["aten::_fused_adam_", "void at::native::multi_tensor_apply_kernel<A>"],
    "copy": [
        "aten::copy_", "aten::_to_copy", "aten::contiguous", "aten::cat", "aten::zero_",
        "aten::index_select", "aten::embedding", "Memcpy DtoD (Device -> Device)",
    ],
    "other": ["aten::view", "aten::t", "aten::as_strided", "aten::empty", "aten::transpose"],
}  # fmt: skip


@pytest.mark.parametrize("expected", KINDS)
def test_names_tell_the_kind(expected: str):
    assert {name: kind(name) for name in EXAMPLES[expected]} == dict.fromkeys(
        EXAMPLES[expected], expected
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"matmul": 80, "elementwise": 20}, "arithmetic"),
        ({"elementwise": 50, "optimizer": 30, "matmul": 20}, "memory_bandwidth"),
        ({"matmul": 50, "elementwise": 50}, None),
        ({"matmul": 40, "other": 60}, None),
        ({}, None),
    ],
)
def test_a_limit_is_named_only_where_one_sort_of_work_dominates(times, expected):
    assert bound(times) == expected


@st.composite
def nested(draw: st.DrawFn) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []

    def fill(low: int, high: int, depth: int) -> None:
        position = low
        while position < high and draw(st.booleans()):
            start = draw(st.integers(position, high - 1))
            end = draw(st.integers(start + 1, high))
            found.append((start, end))
            if depth < 3:
                fill(start, end, depth + 1)
            position = end

    fill(0, 60, 0)
    return draw(st.permutations(found))


@given(nested())
def test_own_times_add_up_to_the_time_covered(events):
    start = np.array([s for s, _ in events], np.int64)
    end = np.array([e for _, e in events], np.int64)
    own, depth = self_times(np.zeros(len(events), np.int64), start, end)
    covered = {tick for s, e in events for tick in range(s, e)}
    assert own.sum() == len(covered)
    assert (own >= 0).all()
    outermost = sum(int(e - s) for s, e, d in zip(start, end, depth, strict=True) if d == 0)
    assert outermost == len(covered)


def test_threads_do_not_nest_in_each_other():
    thread, start, end = np.array([1, 2]), np.array([0, 5]), np.array([20, 10])
    own, depth = self_times(thread, start, end)
    assert own.tolist() == [20, 5]
    assert depth.tolist() == [0, 0]
