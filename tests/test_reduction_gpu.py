"""Whose time it is in a window of GPU training: the device's, or the host's while it is idle."""

from __future__ import annotations

from pathlib import Path

import pytest
from window_cases import MAIN, Case, label_ms

LOOP = [("/home/me/train.py", 10, "main", False)]
TO_DEVICE, PAGEABLE = "Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD (Pageable -> Device)"


def gpu(*boundaries: float) -> Case:
    return Case(list(boundaries), device="cuda")


def test_the_device_counts_before_the_host_and_computing_before_communicating(tmp_path: Path):
    case = gpu(0, 100)
    case.kernel("gemm", 0, 40, launched=0).kernel("ncclDevKernel_AllReduce", 30, 60, launched=1)
    case.kernel(TO_DEVICE, 50, 70, launched=2).kernel("Memcpy DtoD", 70, 80, launched=3)
    case.probe("input_wait", 20, 100)
    assert label_ms(case.reduced(tmp_path)) == {
        "compute.forward": 40.0,
        "communication": 20.0,
        "host_to_device": 10.0,
        "compute.device_memory": 10.0,
        "data_loading": 20.0,
    }


def test_kernels_belong_to_the_part_of_the_loop_that_launched_them(tmp_path: Path):
    case = gpu(0, 100).probe("backward", 10, 20).probe("optimizer", 20, 30)
    case.kernel("a", 10, 30, launched=5).kernel("b", 30, 60, launched=15)
    case.kernel("c", 60, 90, launched=25)
    found = label_ms(case.reduced(tmp_path))
    assert found["compute.forward"] == 20.0
    assert found["compute.backward"] == 30.0
    assert found["compute.optimizer"] == 30.0


def test_a_step_ends_where_the_device_ends_it(tmp_path: Path):
    case = gpu(0, 20, 100)
    case.kernel("first", 5, 60, launched=4).kernel("second", 60, 90, launched=30)
    window = case.reduced(tmp_path)
    assert [(b - window.boundaries[0]) / 1e6 for b in window.boundaries] == [0, 60, 100]
    assert label_ms(window, step=0)["compute.forward"] == 55.0
    assert label_ms(window, step=1)["compute.forward"] == 30.0


def test_a_kernel_without_a_launch_record_goes_with_the_one_before_it_on_its_stream(
    tmp_path: Path,
):
    case = gpu(0, 20, 100)
    case.kernel("first", 5, 30, launched=4).kernel("orphan", 30, 60)
    case.kernel("second", 60, 90, launched=30)
    window = case.reduced(tmp_path)
    assert (window.boundaries[1] - window.boundaries[0]) / 1e6 == 60.0


def test_kernels_launched_before_the_window_delay_its_first_boundary(tmp_path: Path):
    case = gpu(0, 50).kernel("before", -10, 15).kernel("mine", 15, 40, launched=5)
    window = case.reduced(tmp_path)
    assert label_ms(window) == {
        "compute.forward": 25.0,
        "host.python": 10.0,
    }


def test_an_idle_device_is_charged_to_what_the_training_thread_does(tmp_path: Path):
    case = gpu(0, 100).kernel("gemm", 0, 10, launched=0)
    case.event("cudaMalloc", 10, 20, kind="cuda_runtime")
    case.event("cudaStreamSynchronize", 20, 35, kind="cuda_runtime")
    case.event("aten::linear", 40, 60)
    case.probe("between", 70, 80).probe("collective", 80, 90)
    assert label_ms(case.reduced(tmp_path)) == {
        "compute.forward": 10.0,
        "host.allocator": 10.0,
        "host.synchronisation": 15.0,
        "host.launch": 20.0,
        "host.python": 25.0,
        "outside.other": 10.0,
        "communication": 10.0,
    }


def copying(name: str, *, wait: bool) -> Case:
    case = gpu(0, 100).event("aten::copy_", 10, 50)
    case.event("cudaMemcpyAsync", 12, 14, kind="cuda_runtime", correlation=900)
    case.event(name, 30, 40, kind="gpu_memcpy", stream=7, correlation=900, size=4_000_000)
    if wait:
        case.event("cudaStreamSynchronize", 14, 48, kind="cuda_runtime")
    return case


@pytest.mark.parametrize(
    ("name", "wait"), [(PAGEABLE, False), (PAGEABLE, True), (TO_DEVICE, True)]
)
def test_a_copy_that_holds_the_host_up_is_charged_wholly(tmp_path: Path, name: str, wait: bool):
    window = copying(name, wait=wait).reduced(tmp_path)
    assert label_ms(window)["host_to_device"] == 40.0
    assert window.copies is not None
    assert window.copies.blocking_ns == 40_000_000
    assert window.copies.bytes == 4_000_000


def test_a_copy_that_runs_by_itself_is_charged_for_its_own_time(tmp_path: Path):
    window = copying(TO_DEVICE, wait=False).reduced(tmp_path)
    assert label_ms(window)["host_to_device"] == 10.0
    assert window.copies is not None
    assert (window.copies.pinned_ns, window.copies.pageable_ns) == (10_000_000, 0)
    assert window.copies.blocking_ns == 0


def test_what_an_evaluation_launches_is_outside(tmp_path: Path):
    case = gpu(0, 100).probe("evaluation", 0, 50).kernel("gemm", 20, 70, launched=10)
    assert label_ms(case.reduced(tmp_path)) == {"outside.evaluation": 70.0, "host.python": 30.0}


def test_a_gpu_window_without_gpu_events_is_unusable_and_says_why(tmp_path: Path):
    window = gpu(0, 100).event("aten::linear", 0, 100).reduced(tmp_path)
    assert window.unusable is not None
    assert "GPU" in window.unusable


def test_kernels_are_ranked_by_their_kind(tmp_path: Path):
    case = gpu(0, 100).kernel("ampere_sgemm_128x64", 0, 50, launched=0)
    case.kernel("void at::native::vectorized_elementwise_kernel<4>", 50, 60, launched=0)
    window = case.reduced(tmp_path)
    assert [(o.kind, o.ns / 1e6) for o in window.operators] == [
        ("matmul", 50.0),
        ("elementwise", 10.0),
    ]
    assert window.operator_calls == 2


def test_the_timeline_has_a_lane_for_each_stream_and_its_exposed_parts_fill_the_step(
    tmp_path: Path,
):
    case = gpu(0, 100).kernel("gemm", 0, 40, launched=0, stream=7)
    case.kernel("ncclDevKernel_AllReduce", 30, 60, launched=1, stream=9)
    case.event("aten::linear", 0, 10, thread=MAIN)
    timeline = case.reduced(tmp_path).timeline
    assert timeline is not None
    lanes = {lane.name: lane.bars for lane in timeline.lanes}
    assert {"GPU stream 7", "GPU stream 9", "exposed", "training thread"} <= set(lanes)
    exposed = lanes["exposed"]
    assert sum(bar.end_ms - bar.start_ms for bar in exposed) == pytest.approx(timeline.wall_ms)


def test_the_loader_has_a_lane_of_its_own_in_the_timeline(tmp_path: Path):
    case = gpu(0, 100).kernel("gemm", 40, 100, launched=30)
    case.probe("input_wait", 0, 30)
    timeline = case.reduced(tmp_path).timeline
    assert timeline is not None
    (waited,) = next(lane.bars for lane in timeline.lanes if lane.name == "DataLoader")
    assert (waited.start_ms, waited.end_ms, waited.phase) == (0.0, 30.0, "data_loading")


def test_calls_of_the_runtime_beside_an_idle_gpu_are_told(tmp_path: Path):
    case = gpu(0, 100).kernel("gemm", 60, 100, launched=0)
    case.event("cudaMalloc", 10, 70, kind="cuda_runtime")
    (used,) = case.reduced(tmp_path).use
    assert used.idle / 1e6 == pytest.approx(60.0)
    assert used.runtime_idle / 1e6 == pytest.approx(50.01)  # the launch is one, too


def test_pieces_too_short_to_be_drawn_leave_no_gap_in_what_is_exposed(tmp_path: Path):
    case = gpu(0, 1000)
    for at in range(0, 1000, 2):
        case.kernel("gemm", at, at + 1, launched=0)
    timeline = case.reduced(tmp_path).timeline
    assert timeline is not None
    exposed = next(lane.bars for lane in timeline.lanes if lane.name == "exposed")
    assert len(exposed) == 400
    assert sum(bar.end_ms - bar.start_ms for bar in exposed) == pytest.approx(timeline.wall_ms)


def test_collectives_of_the_gpu_are_drawn_once_on_their_stream(tmp_path: Path):
    case = gpu(0, 100).kernel("ncclDevKernel_AllReduce", 30, 60, launched=1, stream=9)
    timeline = case.reduced(tmp_path).timeline
    assert timeline is not None
    assert "collectives" not in {lane.name for lane in timeline.lanes}
