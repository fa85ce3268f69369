"""FLOPs of operators from the shapes that a trace recorded of them."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from speedprof.profiler.flops import COUNTED, flops
from speedprof.profiler.trace_flops import TraceFlops

CALLS = {
    "linear": lambda: F.linear(wanting(5, 7, 16), wanting(24, 16), wanting(24)),
    "bmm": lambda: torch.bmm(wanting(3, 4, 5), wanting(3, 5, 6)),
    "baddbmm": lambda: torch.baddbmm(wanting(3, 4, 6), wanting(3, 4, 5), wanting(3, 5, 6)),
    "matmul of four dimensions": lambda: wanting(2, 3, 4, 5) @ wanting(5, 6),
    "convolution": lambda: F.conv2d(wanting(2, 3, 17, 19), wanting(8, 3, 3, 3), wanting(8)),
    "strided and padded": lambda: F.conv2d(
        wanting(2, 6, 17, 19), wanting(8, 6, 5, 3), stride=(2, 3), padding=(2, 1), dilation=(1, 2)
    ),
    "of one dimension": lambda: F.conv1d(wanting(2, 3, 30), wanting(8, 3, 3), stride=2),
    "of three dimensions": lambda: F.conv3d(wanting(2, 3, 6, 7, 8), wanting(4, 3, 2, 3, 2)),
    "transposed": lambda: F.conv_transpose2d(wanting(2, 6, 7, 9), wanting(6, 4, 3, 3), stride=2),
    "input without gradient": lambda: F.conv2d(torch.rand(2, 3, 9, 9), wanting(8, 3, 3, 3)),
    "attention": lambda: F.scaled_dot_product_attention(
        wanting(2, 4, 12, 8), wanting(2, 4, 20, 8), wanting(2, 4, 20, 8)
    ),
}


def wanting(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, requires_grad=True)


def recorded(call, path) -> int:
    """Return the FLOPs of a forward and a backward pass, from the trace that was exported."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        call().sum().backward()
    profiler.export_chrome_trace(str(path))
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("cat") == "cpu_op"]
    counter = TraceFlops()
    for number, event in enumerate(events):
        said = event["args"]
        dims, concrete = (json.dumps(said.get(k, [])) for k in ("Input Dims", "Concrete Inputs"))
        counter.add(number, event["name"], dims.encode(), concrete.encode())
    threads, starts = [e["tid"] for e in events], [e["ts"] for e in events]
    counted = counter.all(threads, starts)
    found = [(events[number], count) for number, count in counted.items()]
    return sum(
        count
        for event, count in found
        if not any(other is not event and holds(other, event) for other, _ in found)
    )


def holds(outer: dict, inner: dict) -> bool:
    return (
        outer["tid"] == inner["tid"]
        and outer["ts"] <= inner["ts"]
        and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
        and outer["dur"] > inner["dur"]
    )


@pytest.mark.parametrize("name", CALLS)
def test_a_recorded_trace_gives_the_same_flops_as_pytorchs_counter(name, tmp_path):
    with FlopCounterMode(display=False) as counter:
        CALLS[name]().sum().backward()
    if name == "attention" and not counter.get_total_flops():
        pytest.skip("torch's own counter does not know its operator for attention here")
    assert recorded(CALLS[name], tmp_path / "trace.json") == counter.get_total_flops() > 0


def test_each_gradient_of_a_grouped_convolution_is_as_much_work_as_its_forward_pass(tmp_path):
    def call():
        return F.conv2d(wanting(2, 6, 9, 9), wanting(12, 2, 3, 3), groups=3)

    with FlopCounterMode(display=False) as counter:
        call()
    assert recorded(call, tmp_path / "trace.json") == 3 * counter.get_total_flops()


def test_a_causal_mask_leaves_what_lies_on_and_below_the_diagonal():
    query = [2, 4, 100, 16]
    name, dims = "aten::_scaled_dot_product_flash_attention", [query, query, query, [], []]
    full = flops(name, dims, ["", "", "", "0.", "False"])
    assert full == 2 * 2 * 2 * 4 * 100 * 100 * 16
    assert flops(name, dims, ["", "", "", "0.", "True"]) == full * 101 // 200
    assert flops(name, dims) is None


SWITCHES = [
    ("flash_attention", 4, 0),
    ("flash_attention_backward", 11, 1),
    ("flash_attention_for_cpu", 4, 0),
    ("flash_attention_for_cpu_backward", 7, 1),
    ("efficient_attention", 6, 0),
    ("efficient_attention_backward", 11, 1),
    ("cudnn_attention", 6, 0),
    ("cudnn_attention_backward", 14, 1),
]


@pytest.mark.parametrize(("kind", "switch", "first"), SWITCHES)
def test_the_switch_of_the_mask_is_where_pytorchs_own_schema_has_it(kind, switch, first):
    name = f"_scaled_dot_product_{kind}"
    arguments = [a.name for a in getattr(torch.ops.aten, name).default._schema.arguments]
    assert (arguments.index("is_causal"), arguments.index("query")) == (switch, first)
    shapes = [[1, 2, 8, 4]] * len(arguments)
    said = [""] * len(arguments)
    said[switch] = "False"
    full = flops(f"aten::{name}", shapes, said)
    said[switch] = "True"
    masked = flops(f"aten::{name}", shapes, said)
    assert full is not None
    assert masked == full * 9 // 16


CONVOLVED = [[32, 128, 56, 56], [128, 128, 3, 3], [], [], [], [], []]


def test_a_convolution_without_strides_is_not_guessed_at():
    assert flops("aten::convolution", CONVOLVED) is None
    assert flops("aten::convolution", CONVOLVED, []) is None


def old_style(*gradients: list[int]) -> dict[int, int]:
    """Return what is known of a step as PyTorch 1.8 recorded it, by event."""
    counter = TraceFlops()
    given, weight = CONVOLVED[:2]
    add(counter, 0, "aten::convolution", given, weight)
    add(counter, 1, "aten::cudnn_convolution", given, weight)
    for gradient in gradients:
        add(counter, 3, "aten::cudnn_convolution_backward_input", [], gradient, weight)
        add(counter, 4, "aten::cudnn_convolution_backward_weight", [], gradient, given)
        add(counter, 2, "aten::cudnn_convolution_backward", given, gradient, weight)
    return counter.all([7] * 5, range(5))


def add(counter: TraceFlops, event: int, name: str, *dims: list[int]) -> None:
    counter.add(event, name, json.dumps(dims).encode())


def test_a_backward_pass_tells_the_stride_that_the_forward_pass_did_not():
    once = 2 * 32 * 28 * 28 * 128 * 128 * 9
    assert old_style([32, 128, 28, 28]) == {1: once, 3: once, 4: once}


def test_two_strides_between_the_same_shapes_leave_the_forward_pass_unknown():
    assert 1 in old_style([32, 128, 28, 28])
    assert 1 not in old_style([32, 128, 28, 28], [32, 128, 56, 56])


def test_a_forward_pass_alone_stays_unknown():
    assert old_style() == {}


def test_matrices_that_do_not_fit_together_have_no_flops():
    assert flops("aten::mm", [[2, 3], [4, 5]]) is None
    assert flops("aten::bmm", [[2, 3, 4], [3, 4, 5]]) is None
    assert flops("aten::mm", [[2, 3], [3, 5]]) == 60
    assert flops("aten::_grouped_mm", [[10, 3], [4, 3, 5], [4]]) == 300


def test_other_operators_have_none():
    assert flops("aten::add", [[2, 3], [2, 3]]) is None
    assert flops("aten::linear", [[2, 3], [4, 3]]) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just([3]),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=30,
)


@given(
    st.sampled_from(sorted(COUNTED)),
    ANYTHING | st.lists(st.lists(st.integers(-1, 9), max_size=5), max_size=12),
    ANYTHING | st.lists(st.sampled_from(["", "True", "False", "[1, 1]", "[0]", "1"]), max_size=16),
)
def test_damaged_shapes_give_a_number_or_nothing(name, dims, concrete):
    found = flops(name, dims, concrete)
    assert found is None or 0 <= found < math.inf


def test_absurd_sizes_give_nothing():
    assert flops("aten::mm", [[10**9, 10**9], [10**9, 10**9]]) is None


@given(st.sampled_from(["aten::mm", "aten::cudnn_convolution_backward"]), st.binary(max_size=30))
def test_text_that_is_no_shape_is_passed_over(name, text):
    counter = TraceFlops()
    counter.add(0, name, text)
    assert counter.all([0], [0]) == {}


def test_the_gradient_of_a_weight_has_the_size_of_the_weight_around_it():
    """Between the same input and output weights of several sizes may stand."""
    counter, shape = TraceFlops(), [32, 64, 56, 56]
    weights = [[64, 64, 1, 1], [64, 64, 3, 3]]
    for number, weight in enumerate(weights):
        add(counter, 10 * number, "aten::cudnn_convolution_backward", shape, shape, weight)
        add(counter, 10 * number + 1, "aten::cudnn_convolution_backward_weight", [], shape, shape)
    add(counter, 21, "aten::cudnn_convolution_backward_weight", [], shape, shape)
    once = 2 * 32 * 56 * 56 * 64 * 64
    assert counter.all([1] * 20 + [2] * 2, range(22)) == {1: once, 11: 9 * once}
