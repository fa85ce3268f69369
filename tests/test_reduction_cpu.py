"""Whose time it is in a window of CPU training."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_cases import AUTOGRAD, GLOO, MAIN, Case, label_ms

from speedprof.profiler.labels import LABELS

LOOP = [("/home/me/train.py", 10, "main", False), ("/home/me/train.py", 90, "<module>", False)]


def test_operators_are_compute_and_the_probes_tell_forward_backward_and_optimizer(tmp_path: Path):
    case = Case([0, 100])
    case.event("aten::linear", 10, 30).event("aten::addmm", 12, 28)  # nested: counts once
    case.event("autograd::engine::evaluate_function: AddmmBackward0", 40, 70)
    case.event("aten::add_", 80, 90)
    case.probe("backward", 38, 72).probe("optimizer", 78, 92)
    assert label_ms(case.reduced(tmp_path)) == {
        "compute.forward": 20.0,
        "compute.backward": 30.0,
        "compute.optimizer": 10.0,
        "host.python": 40.0,
    }


def test_what_a_closure_does_inside_the_optimizer_is_forward_and_backward(tmp_path: Path):
    case = Case([0, 100]).probe("optimizer", 0, 100).probe("backward", 30, 60)
    case.event("aten::linear", 0, 30).event("MmBackward0", 30, 60).event("aten::add_", 60, 100)
    assert label_ms(case.reduced(tmp_path)) == {
        "compute.forward": 30.0,
        "compute.backward": 30.0,
        "compute.optimizer": 40.0,
    }


def test_operators_of_the_loader_and_of_the_evaluation_are_no_compute(tmp_path: Path):
    case = Case([0, 100])
    case.probe("input_wait", 0, 20).event("aten::stack", 5, 15)
    case.probe("evaluation", 50, 90).probe("input_wait", 55, 60).event("aten::linear", 60, 80)
    case.probe("checkpoint", 85, 95)
    assert label_ms(case.reduced(tmp_path)) == {
        "data_loading": 20.0,
        "outside.evaluation": 35.0,
        "outside.checkpoint": 10.0,
        "host.python": 35.0,
    }


def test_a_collective_in_flight_is_communication_only_where_nothing_computes(tmp_path: Path):
    case = Case([0, 100])
    case.event("autograd::engine::evaluate_function: X", 0, 40).probe("backward", 0, 90)
    case.event("gloo:all_reduce", 20, 80, kind="user_annotation", thread=GLOO)
    window = case.reduced(tmp_path)
    assert label_ms(window) == {
        "compute.backward": 40.0,
        "communication": 40.0,
        "host.python": 20.0,
    }
    assert [(c.name, c.step, (c.end - c.start) / 1e6) for c in window.collectives] == [
        ("gloo:all_reduce", 4, 60.0)
    ]
    assert window.collective_ns == 60_000_000


def test_handing_over_to_a_collective_is_communication_though_it_is_an_operator(tmp_path: Path):
    case = Case([0, 100]).event("autograd::engine::evaluate_function: X", 0, 50)
    case.event("c10d::allreduce_", 30, 40)
    assert label_ms(case.reduced(tmp_path)) == {
        "compute.forward": 40.0,
        "communication": 10.0,
        "host.python": 50.0,
    }


def test_autograd_threads_compute_and_other_threads_do_not(tmp_path: Path):
    case = Case([0, 100])
    case.event("autograd::engine::evaluate_function: X", 10, 30, thread=AUTOGRAD)
    case.event("aten::add", 30, 40, thread=AUTOGRAD).event("aten::linear", 50, 90, thread=99)
    assert label_ms(case.reduced(tmp_path)) == {"compute.forward": 30.0, "host.python": 70.0}


@pytest.mark.parametrize(
    "name", ["Torch-Compiled Region: 0/0", "## Call CompiledFxGraph f1 ##", "CompiledFunction"]
)
def test_compiled_regions_compute_and_other_annotations_do_not(tmp_path: Path, name: str):
    case = Case([0, 100]).event(name, 10, 60, kind="user_annotation")
    case.event("Optimizer.step#SGD.step", 70, 90, kind="user_annotation")
    assert label_ms(case.reduced(tmp_path)) == {"compute.forward": 50.0, "host.python": 50.0}


def test_each_step_has_its_own_times_and_an_operator_is_cut_where_steps_meet(tmp_path: Path):
    window = Case([0, 40, 100]).event("aten::linear", 30, 70).reduced(tmp_path)
    assert label_ms(window, step=0) == {"compute.forward": 10.0, "host.python": 30.0}
    assert label_ms(window, step=1) == {"compute.forward": 30.0, "host.python": 30.0}


def test_own_time_of_operators_leaves_out_what_they_called(tmp_path: Path):
    case = Case([0, 100]).event("aten::linear", 0, 50).event("aten::addmm", 10, 40)
    case.event("aten::relu", 60, 70).probe("evaluation", 80, 90).event("aten::relu", 82, 88)
    window = case.reduced(tmp_path)
    assert {(o.name, o.kind, o.ns / 1e6, o.calls) for o in window.operators} == {
        ("aten::linear", "matmul", 20.0, 1),
        ("aten::addmm", "matmul", 30.0, 1),
        ("aten::relu", "elementwise", 10.0, 1),
    }
    assert window.operator_calls == 2


def test_a_window_without_events_or_samples_is_the_hosts(tmp_path: Path):
    assert label_ms(Case([0, 10]).reduced(tmp_path)) == {"host.python": 10.0}


def test_waiting_is_told_from_python_by_the_threads_cpu_time(tmp_path: Path):
    case = Case([0, 200]).event("aten::linear", 100, 101)
    case.sampled(2.5, 100, LOOP, cpu=0.1)  # asleep
    case.sampled(102.5, 200, LOOP, cpu=4.9)
    found = label_ms(case.reduced(tmp_path))
    assert found["host.synchronisation"] == pytest.approx(100, abs=3)
    assert found["host.python"] == pytest.approx(99, abs=3)


def test_time_without_a_core_is_not_waiting(tmp_path: Path):
    case = Case([0, 100])
    for at in range(5, 100, 5):
        case.sample(at, LOOP, cpu=1.0, queued=4.0)
    assert label_ms(case.reduced(tmp_path)) == {"host.python": 100.0}


def test_a_wait_for_a_core_that_is_told_when_it_ends_is_not_waiting_before(tmp_path: Path):
    case = Case([0, 100])
    for at in range(5, 100, 15):
        case.sample(at, LOOP, cpu=5.0)
        case.sample(at + 5, LOOP, cpu=0.0)
        case.sample(at + 10, LOOP, cpu=1.0, queued=9.0)
    assert label_ms(case.reduced(tmp_path)) == {"host.python": 100.0}


def test_sleep_before_a_wait_for_a_core_stays_waiting(tmp_path: Path):
    case = Case([0, 100])
    for at in range(10, 101, 10):
        case.sample(at - 5, LOOP, cpu=0.0)
        case.sample(at, LOOP, cpu=1.0, queued=4.0)
    found = label_ms(case.reduced(tmp_path))
    assert found["host.synchronisation"] >= 50


def test_a_wait_ends_exactly_where_the_next_operator_begins(tmp_path: Path):
    logging = [("/home/me/train.py", 30, "log", False), *LOOP]
    case = Case([0, 100]).event("aten::linear", 0, 41.3).event("aten::linear", 61.3, 100)
    model = [("/usr/lib/python3.11/site-packages/torch/nn/functional.py", 1, "linear", False)]
    case.sampled(1, 41, model + LOOP)
    case.sampled(42, 61, logging, cpu=0.0)
    case.sample(62, model + LOOP, cpu=0.7).sampled(67, 100, model + LOOP)
    lines = {
        (line.line, LABELS[line.label]): line.ns / 1e6 for line in case.reduced(tmp_path).lines
    }
    assert lines[30, "host.synchronisation"] == pytest.approx(20.0, abs=1e-6)
    assert lines[10, "compute.forward"] == pytest.approx(80.0, abs=1e-6)


def test_a_line_is_only_blamed_for_the_phase_it_was_seen_in(tmp_path: Path):
    case = Case([0, 100]).probe("input_wait", 0, 4).event("aten::linear", 4, 100)
    case.sampled(6, 100, LOOP)
    assert {LABELS[line.label] for line in case.reduced(tmp_path).lines} == {"compute.forward"}


spans_of_time = st.tuples(st.floats(-5, 60), st.floats(0, 30)).map(lambda p: (p[0], p[0] + p[1]))
event = st.tuples(
    st.sampled_from(
        [
            "aten::mm",
            "c10d::allreduce_",
            "gloo:all_reduce",
            "autograd::engine::evaluate_function: X",
        ]
    ),
    spans_of_time,
    st.sampled_from([MAIN, AUTOGRAD, GLOO]),
)
probe = st.tuples(
    st.sampled_from(
        [
            "input_wait",
            "input_start",
            "backward",
            "optimizer",
            "checkpoint",
            "evaluation",
            "between",
            "collective",
            "synchronise",
        ]
    ),
    spans_of_time,
)
sample = st.tuples(st.floats(-2, 55), st.integers(1, 3), st.floats(0, 6))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(event, max_size=12),
    st.lists(probe, max_size=8),
    st.lists(sample, max_size=12),
    st.lists(st.floats(0.1, 20), min_size=1, max_size=4),
)
def test_whatever_happened_the_parts_of_each_step_add_up_to_it(
    tmp_path_factory, events, probes, samples, lengths
):
    boundaries = [0.0]
    for length in lengths:
        boundaries.append(boundaries[-1] + length)
    case = Case(boundaries)
    for name, (start, end), thread in events:
        case.event(name, start, end, thread=thread)
    for what, (start, end) in probes:
        case.probe(what, start, end)
    for at, line, cpu in samples:
        generator = ("/home/me/train.py", line, f"batches{line}", line == 2)
        case.sample(at, [generator, *LOOP], cpu=cpu)
    window = case.reduced(tmp_path_factory.mktemp("w"))
    walls = [b - a for a, b in pairwise(window.boundaries)]
    for step, wall in enumerate(walls):
        parts = label_ms(window, step=step)
        assert min(parts.values()) >= 0
        assert sum(parts.values()) == pytest.approx(wall / 1e6, rel=1e-9)
