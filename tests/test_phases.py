"""How windows of a few steps and probes on every step make up the phases of the usual step."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import rows
from window_cases import Case

from speedprof.profiler.labels import LABELS
from speedprof.profiler.phases import Breakdown, breakdown
from speedprof.profiler.record import COLUMN
from speedprof.profiler.reduced import ReducedWindow

NONE = np.zeros((0, len(rows([1.0])[0])), np.int64)


def estimate(
    steps: list[list[int]], windows: list[ReducedWindow], device: str = "cpu", traced=NONE
) -> Breakdown:
    return breakdown(np.array(steps), windows, frozenset(), traced=np.array(traced), device=device)


def ms(parts: Breakdown) -> dict[str, float]:
    return {name: round(phase.ms, 6) for name, phase in parts.phases.items() if phase.ms > 1e-9}


def plain(folder: Path, **more: float) -> ReducedWindow:
    """Return two steps: 5 ms of forward, 10 of backward, 1 of optimizer, 4 of Python."""
    case = Case([0, 20, 40], **more)
    for begin in (0, 20):
        case.event("aten::linear", begin, begin + 5)
        case.event("autograd::engine::evaluate_function: X", begin + 6, begin + 16)
        case.probe("backward", begin + 6, begin + 16)
        case.event("aten::add_", begin + 17, begin + 18).probe("optimizer", begin + 17, begin + 18)
    return case.reduced(folder)


STEP = {"backward": 10.0, "optimizer": 1.0, "tail": 2.0}


def test_without_anything_unusual_the_windows_proportions_hold(tmp_path: Path):
    parts = estimate(rows([20.0] * 40, **STEP), [plain(tmp_path)])
    assert ms(parts) == {"compute": 16.0, "host": 4.0}
    assert parts.split


def test_waits_for_the_loader_count_as_they_were_on_every_step(tmp_path: Path):
    waits = [0.0] * 9 + [100.0]  # the windows saw none of it
    steps = rows([20.0 + w for w in waits * 4], **STEP, input_wait=waits * 4)
    assert ms(estimate(steps, [plain(tmp_path)])) == {
        "data_loading": 10.0,
        "compute": 16.0,
        "host": 4.0,
    }


def test_checkpoints_evaluation_and_the_time_between_epochs_do_too(tmp_path: Path):
    steps = rows([20.0] * 9 + [80.0], **{**STEP, "tail": [2.0] * 9 + [62.0]},
                 checkpoint=[0.0] * 9 + [10.0], evaluation=[0.0] * 9 + [50.0])  # fmt: skip
    parts = estimate(steps, [plain(tmp_path)])
    assert ms(parts) == {"outside": 6.0, "compute": 16.0, "host": 4.0}
    assert parts.label_ms["outside.evaluation"] == pytest.approx(5.0)


def test_a_burst_after_the_optimizer_is_the_hosts_and_not_spread_over_compute(tmp_path: Path):
    tail = [2.0] * 9 + [102.0]
    steps = rows([20.0] * 9 + [120.0], backward=10.0, optimizer=1.0, tail=tail)
    assert ms(estimate(steps, [plain(tmp_path)])) == {"compute": 16.0, "host": 14.0}


def test_what_tracing_added_is_taken_off_operators_and_python_but_not_off_waits(tmp_path: Path):
    case = Case([0, 100]).event("gloo:all_reduce", 50, 90, kind="user_annotation")
    for number in range(1000):
        case.event("aten::add", number / 20, number / 20 + 0.05)
    window = case.reduced(tmp_path)  # 50 compute, 40 communication, 10 host; 1,001 events
    found = ms(estimate(rows([98.0] * 20), [window]))
    assert found["communication"] == pytest.approx(40.0)
    assert found["compute"] == pytest.approx(50.0 - 2 * 50 / 60)


def test_a_difference_that_tracing_cannot_explain_scales_all_parts(tmp_path: Path):
    found = ms(
        estimate(rows([10.0] * 20, backward=5.0, optimizer=0.5, tail=1.0), [plain(tmp_path)])
    )
    assert found == {"compute": pytest.approx(8.0, rel=1e-3), "host": pytest.approx(2.0, rel=5e-3)}


def test_without_windows_the_host_is_inside_compute_and_its_interval_says_so():
    parts = estimate(rows([20.0] * 10, **STEP, input_wait=4.0), [])
    assert ms(parts) == {"data_loading": 4.0, "compute": 16.0}
    assert not parts.split
    assert parts.phases["host"].low == 0.0
    assert parts.phases["host"].high == pytest.approx(0.8)


def test_an_interval_holds_the_truth_about_as_often_as_it_says(tmp_path: Path):
    window, held, draw = plain(tmp_path), 0, random.Random(1)
    for _ in range(200):
        waits = [draw.expovariate(1 / 5.0) for _ in range(120)]
        steps = rows([20.0 + wait for wait in waits], **STEP, input_wait=waits)
        phase = estimate(steps, [window]).phases["data_loading"]
        held += phase.low <= 0.2 <= phase.high
    assert 180 <= held <= 199


def test_steps_that_differ_between_windows_widen_the_interval(tmp_path: Path):
    def split(folder: str, compute: float) -> ReducedWindow:
        (tmp_path / folder).mkdir()
        return Case([0, 20]).event("aten::mm", 0, compute).reduced(tmp_path / folder)

    alike = [split(f"a{n}", 10.0) for n in range(4)]
    unlike = [split(f"u{n}", compute) for n, compute in enumerate((2.0, 18.0, 6.0, 14.0))]
    steps = rows([20.0] * 40)
    narrow, wide = estimate(steps, alike).phases, estimate(steps, unlike).phases
    assert narrow["compute"].share == wide["compute"].share == pytest.approx(0.5)
    assert narrow["compute"].high - narrow["compute"].low < 0.01
    assert wide["compute"].high - wide["compute"].low > 0.3


def gpu_window(folder: Path) -> ReducedWindow:
    """Return two steps of 20 ms: the device computes 10, copies 2, waits 4 of 8 for input."""
    case = Case([0, 20, 40], device="cuda")
    for begin in (0, 20):
        case.probe("input_wait", begin, begin + 8)
        case.kernel("gemm_of_the_step_before" if begin else "gemm", begin, begin + 4, launched=0)
        case.kernel("Memcpy HtoD (Pinned -> Device)", begin + 8, begin + 10, launched=begin + 8)
        case.kernel("gemm", begin + 10, begin + 16, launched=begin + 9)
    return case.reduced(folder)


def test_on_a_gpu_the_devices_own_wait_for_input_counts(tmp_path: Path):
    steps = rows([20.0] * 40, input_wait=8.0, device_input_wait=3.0)
    parts = estimate(steps, [gpu_window(tmp_path)], "cuda")
    assert parts.phases["data_loading"].ms == pytest.approx(3.0)
    assert sum(phase.ms for phase in parts.phases.values()) == pytest.approx(20.0)


def test_on_a_gpu_without_it_the_wait_counts_as_far_as_windows_found_it_exposed(tmp_path: Path):
    waits = rows([20.0, 20.0], input_wait=8.0, flags=1.0)
    steps = rows([20.0] * 40, input_wait=6.0)
    parts = estimate(steps, [gpu_window(tmp_path)], "cuda", traced=waits)
    assert parts.phases["data_loading"].ms == pytest.approx(3.0)


def test_on_a_gpu_the_start_of_an_epoch_counts_wholly(tmp_path: Path):
    waits = rows([20.0, 20.0], input_wait=8.0, flags=1.0)
    flags = [4.0] + [0.0] * 9
    steps = rows([120.0] + [20.0] * 9, input_start=[100.0] + [0.0] * 9, flags=flags)
    parts = estimate(steps, [gpu_window(tmp_path)], "cuda", traced=waits)
    assert parts.phases["data_loading"].ms == pytest.approx(10.0)


part = st.floats(0, 50)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "wall": st.floats(0.01, 100),
                "input_wait": part,
                "input_start": part,
                "backward": part,
                "optimizer": part,
                "checkpoint": part,
                "evaluation": part,
                "between": part,
                "tail": part,
                "device_input_wait": st.one_of(st.just(-1e-6), part),
                "count": st.integers(1, 8),
            }
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["cpu", "cuda"]),
    st.booleans(),
)
def test_whatever_the_probes_say_phases_are_no_less_than_nothing_and_add_up(
    tmp_path_factory, steps, device, traced
):
    folder = tmp_path_factory.mktemp("w")
    windows = [gpu_window(folder) if device == "cuda" else plain(folder)] if traced else []
    listed = [rows([step.pop("wall")], **step)[0] for step in (dict(s) for s in steps)]
    parts = estimate(listed, windows, device)
    assert all(phase.share >= 0 for phase in parts.phases.values())
    assert all(0 <= phase.low <= phase.high <= 1 for phase in parts.phases.values())
    assert sum(phase.share for phase in parts.phases.values()) == pytest.approx(1, abs=1e-9)
    wall = sum(row[COLUMN["wall"]] for row in listed) / 1e6
    assert sum(parts.label_ms.values()) == pytest.approx(
        wall / sum(s["count"] for s in steps), rel=1e-9
    )
    assert set(parts.label_ms) == set(LABELS)
