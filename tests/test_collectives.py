"""What a collective does, by the names of every library and generation."""

from __future__ import annotations

from pathlib import Path

import pytest
from window_cases import GLOO, Case

from speedprof.profiler.collectives import kind
from speedprof.profiler.labels import LABELS
from speedprof.profiler.reduced import Collective

NAMES = {
    "all_reduce": [
        "ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)",
        "ncclAllReduceRingLLKernel_sum_f32(ncclColl)",
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*, unsigned long, ncclWork*)",
        "ncclSymkDevKernel_AllReduce_RSxLD_AGxST(ncclSymkDevArgs)",
        "mscclKernel_AllReduce_Sum_half_Simple",
        "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(RankData*, RankSignals)",
        "nccl:all_reduce",
        "gloo:all_reduce",
        "c10d::allreduce_",
        "c10d::allreduce_coalesced_",
        "_c10d_functional::all_reduce",
        "oneccl::allreduce",
        "xccl:all_reduce",
    ],
    "all_gather": [
        "ncclKernel_AllGather_RING_LL_Sum_int8_t",
        "nccl:_all_gather_base",
        "c10d::_allgather_base_",
        "c10d::allgather_into_tensor_coalesced_",
        "gloo:all_gather",
    ],
    "reduce_scatter": [
        "ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ncclReduceScatterRingLLKernel_sum_f16(ncclColl)",
        "nccl:_reduce_scatter_base",
        "c10d::_reduce_scatter_base_",
    ],
    "all_to_all": [
        "ncclKernel_AllToAll_RING_SIMPLE_Sum_int8_t",
        "nccl:all_to_all",
        "c10d::alltoall_base_",
        "mpi:all_to_all",
    ],
    "broadcast": ["ncclKernel_Broadcast_RING_LL_Sum_int8_t", "c10d::broadcast_", "oneccl_bcast"],
    "reduce": ["ncclKernel_Reduce_RING_LL_Sum_float(ncclWorkElem)", "c10d::reduce_"],
    "gather": ["c10d::gather_", "gloo:gather"],
    "scatter": ["c10d::scatter_", "gloo:scatter"],
    "send_recv": [
        "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)",
        "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*)",
        "ncclSendRecvKernel_copy_i8(ncclColl)",
        "nccl:send 0->1",
        "nccl:recv 1<-0",
        "c10d::recv_any_source_",
    ],
    "barrier": ["c10d::barrier", "gloo:monitoredBarrier", "c10d::monitored_barrier_"],
    "dispatch": ["void deep_ep::intranode::dispatch<8, 768, 8192>(int4*, float*)"],
    "combine": ["void deep_ep::internode_ll::combine<true, 7168, 9>(void*, void*)"],
    "notify": ["void deep_ep::intranode::notify_dispatch<8>(int const*, int*)"],
    "": [
        "ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)",
        "ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)",
        "nccl:coalesced",
        "",
    ],
}


@pytest.mark.parametrize(
    ("name", "expected"), [(name, found) for found, names in NAMES.items() for name in names]
)
def test_the_name_tells_what_a_collective_does(name: str, expected: str):
    assert kind(name) == expected


def found(case: Case, folder: Path) -> list[Collective]:
    return case.reduced(folder).collectives


def spent(times: list[int]) -> dict[str, float]:
    return {label: ns / 1e6 for label, ns in zip(LABELS, times, strict=True) if ns}


@pytest.mark.parametrize(
    "name",
    [
        "ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)",
        "void deep_ep::intranode::combine<8>(int4*)",
        "void mori::moe::EpCombineIntraNodeKernel<float>(mori::Args)",
        "void vllm::cross_device_reduce_2stage<float, 4>(RankData*)",
    ],
)
def test_a_kernel_of_any_library_is_a_collective_and_no_compute(tmp_path: Path, name: str):
    case = Case([0, 10], device="cuda").kernel(name, 2, 6, launched=1).kernel("gemm", 7, 9)
    window = case.reduced(tmp_path)
    assert [(c.start, c.end) for c in window.collectives] == [(5_002_000_000, 5_006_000_000)]
    assert window.collective_ns == 4_000_000
    assert window.operator_calls == 1


def test_a_kernel_that_runs_any_collective_is_told_by_the_annotation_around_its_launch(
    tmp_path: Path,
):
    case = Case([0, 20], device="cuda")
    case.event("nccl:all_reduce", 1, 2, kind="user_annotation")
    case.event("nccl:_all_gather_base", 3, 4, kind="user_annotation")
    case.kernel("ncclDevKernel_Generic(Args)", 5, 8, launched=1.5)
    case.kernel("ncclDevKernel_Generic(Args)", 9, 12, launched=3.5)
    case.kernel("ncclDevKernel_Generic(Args)", 13, 15, launched=6)
    kinds = [(c.name, c.kind) for c in found(case, tmp_path)]
    assert kinds == [("ncclDevKernel_Generic", k) for k in ("all_reduce", "all_gather", "")]


def test_collectives_of_the_host_have_a_kind_too(tmp_path: Path):
    case = Case([0, 20])
    case.event("gloo:all_reduce", 5, 8, kind="user_annotation", thread=GLOO, size=8)
    (collective,) = found(case, tmp_path)
    assert (collective.kind, collective.bytes) == ("all_reduce", 8)
    assert (collective.group, collective.sequence) == (None, None)


def test_what_a_rank_did_since_the_collective_before_and_during_one_is_kept(tmp_path: Path):
    case = Case([0, 50])
    case.event("aten::mm", 0, 10)
    case.event("gloo:all_reduce", 10, 20, kind="user_annotation", thread=GLOO)
    case.event("aten::mm", 18, 30)
    case.event("gloo:all_reduce", 32, 40, kind="user_annotation", thread=GLOO)
    first, second = found(case, tmp_path)
    assert spent(first.before) == {"compute.forward": 10.0}
    assert spent(first.during) == {"compute.forward": 2.0, "communication": 8.0}
    assert spent(second.before) == {"compute.forward": 10.0, "host.python": 2.0}


def test_nothing_is_known_before_a_collective_that_began_within_another(tmp_path: Path):
    case = Case([0, 50])
    case.event("gloo:all_reduce", 10, 20, kind="user_annotation", thread=GLOO)
    case.event("gloo:all_gather", 15, 25, kind="user_annotation", thread=GLOO)
    assert found(case, tmp_path)[1].before == []


def test_a_collective_of_the_step_before_the_window_is_kept_as_one_of_that_step(tmp_path: Path):
    """Other ranks have it as well; what was launched after the window they may not have."""
    case = Case([10, 20, 30], device="cuda", first_step=4)
    case.kernel("ncclKernel_AllReduce", 11, 12)  # launched before the window
    case.kernel("ncclKernel_AllReduce", 15, 17, launched=13)
    case.kernel("ncclKernel_AllReduce", 28, 29, launched=27)
    case.kernel("ncclKernel_AllReduce", 33, 34, launched=31)
    assert [c.step for c in found(case, tmp_path)] == [3, 4, 5]
