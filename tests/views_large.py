"""More views for report tests: accelerators, many ranks, and names that mean harm."""

from __future__ import annotations

import msgspec
from view_facts import COMPUTE, HOSTILE, loader, machine, phases, series, step_times
from views import (
    PREPARATION,
    advice,
    balanced,
    loader_bound,
    no_steps,
    nothing_measured,
    run,
    unfinished,
    view,
)

from speedprof.advisor.finding import Finding
from speedprof.mitigations.mitigation import Gain
from speedprof.profiler.run import (
    Bar,
    Communication,
    Copies,
    Environment,
    Lane,
    Line,
    NotMeasured,
    Operator,
    Rank,
    SyncCall,
    Timeline,
    Transform,
)
from speedprof.reports.view import View

COPY = Finding(
    rule="pageable-copies",
    phase="host_to_device",
    cause="pageable_memory",
    share=0.27,
    low=0.25,
    high=0.29,
    evidence="Batches are copied from pageable memory: 11.3 ms a step at 6.8 GB/s,"
    " the GPU idle meanwhile.",
    where="train.py:52",
)
SYNC = Finding(
    rule="synchronising-calls",
    phase="host",
    cause="synchronisation",
    share=0.06,
    low=0.05,
    high=0.08,
    evidence="Tensor.item waits for the GPU once a step, 2.6 ms.",
    where="train.py:58",
)
STRAGGLER = Finding(
    rule="straggler",
    phase="communication",
    cause="straggler",
    share=0.31,
    low=0.28,
    high=0.34,
    evidence="Rank 5 is late: the others wait 64 ms of each step for it, 88 % of all waiting.",
    where=None,
)
ARITHMETIC = Finding(
    rule="arithmetic-bound",
    phase="compute",
    cause="arithmetic",
    share=0.93,
    low=0.92,
    high=0.94,
    evidence="Matrix products and convolutions run 74 % of each step in float32, TF32 is off.",
    where=None,
)


def gpu_timeline(wall: float) -> Timeline:
    """Return a step with a busy stream, a copy before it and a host that launches ahead."""
    kernels = [
        Bar(
            start_ms=wall * (0.36 + k * 0.0058),
            end_ms=wall * (0.36 + k * 0.0058 + 0.005),
            phase="compute",
            label="sm90_xmma_gemm_f32f32_tf32" if k % 3 else "elementwise_kernel",
        )
        for k in range(110)
    ]
    host = [
        Bar(
            start_ms=wall * (0.08 + k * 0.012),
            end_ms=wall * (0.08 + k * 0.012 + 0.009),
            phase="host",
            label="cudaLaunchKernel",
        )
        for k in range(60)
    ]
    wait = Bar(start_ms=0.0, end_ms=wall * 0.08, phase="data_loading", label="DataLoader.__next__")
    copy = Bar(
        start_ms=wall * 0.09, end_ms=wall * 0.36, phase="host_to_device", label="Memcpy HtoD"
    )
    lanes = [
        Lane(name="main thread", bars=[wait, *host]),
        Lane(name="GPU stream 7", bars=kernels),
        Lane(name="GPU stream 20", bars=[copy]),
        Lane(
            name="exposed",
            bars=[
                wait,
                copy,
                Bar(start_ms=wall * 0.36, end_ms=wall, phase="compute", label="compute"),
            ],
        ),
    ]
    return Timeline(rank=0, step=31, wall_ms=wall, lanes=lanes)


GPU_ENVIRONMENT = Environment(
    python="3.12.4",
    torch="2.11.0",
    cuda="13.0",
    torchvision=None,
    threads=16,
    flags={"tf32": "off", "cudnn.benchmark": "on", "NCCL_P2P_LEVEL": "NVL"},
)


def gpu_with_copies() -> View:
    wall = 42.1
    on_gpu = phases(wall, 0.07, 0.27, 0.58, 0.0, 0.07, 0.01)
    made = run(
        device="cuda",
        phases=on_gpu,
        step_ms=step_times(wall, batch=256),
        series=series(900, wall, 3.0),
        steps=900,
        copies=Copies(pageable_ms=11.3, pinned_ms=0.0, blocking_ms=10.9, bytes=77e6, gb_per_s=6.8),
        sync_calls=[
            SyncCall(what="Tensor.item", where="train.py:58", calls_per_step=1.0, ms_per_step=2.6),
            SyncCall(
                what="Tensor.cpu", where="metrics.py:12", calls_per_step=0.02, ms_per_step=0.1
            ),
        ],
        loaders=[
            loader(
                num_workers=8, prefetch_factor=2, start_method="fork", wait_ms=2.9, batch_size=256
            ),
            loader(
                number=1,
                role="evaluation",
                where="train.py:47",
                batches=39,
                wait_ms=None,
                startup_ms=None,
                first_batch_ms=None,
                getitem_ms=None,
                getitem_cpu_ms=None,
                collate_ms=None,
                collate_cpu_ms=None,
                queued_ms=None,
                storage_wait_ms=None,
                transforms=[],
            ),
        ],
        timelines=[gpu_timeline(wall)],
        machines=[machine("gpu-a", gpus=1, cpu=0.4)],
        ranks=[
            Rank(
                rank=0,
                node="gpu-a",
                pid=991,
                device="cuda:0",
                steps=900,
                step_ms=step_times(wall),
                phases=on_gpu,
                peak_memory_bytes=4_100_000_000,
                peak_device_bytes=41_000_000_000,
                device_memory_bytes=150_000_000_000,
            )
        ],
        environment=GPU_ENVIRONMENT,
        not_measured=[NotMeasured(what="communication", why="one process")],
    )
    pin = advice(
        "pin-memory",
        COPY,
        title="Load batches into pinned memory",
        gain=Gain(low=1.18, high=1.35, model="copies at 25 GB/s, overlapped or not"),
        parameters={"pin_memory": True},
        by_hand="DataLoader(dataset, ..., pin_memory=True)",
        reason="77 MB a step leave pageable memory at 6.8 GB/s; pinned it is 25 GB/s here.",
    )
    defer = advice(
        "defer-item",
        SYNC,
        title="Read losses later",
        gain=Gain(low=1.02, high=1.06, model="ceiling 1 / (1 - 0.06)"),
        how="patch",
        by_hand="total += loss.detach()",
        reason="train.py:58 waits for the GPU in every step.",
    )
    copied = view(
        made, COPY, "Copies to the GPU take 27 % of each step: pageable memory.", pin, defer
    )
    return with_findings(copied, (COPY, SYNC))


def with_findings(made: View, findings: tuple[Finding, ...]) -> View:
    """Return the view with these findings."""
    from dataclasses import replace

    return replace(made, judgement=replace(made.judgement, findings=findings))


def compute_bound() -> View:
    wall = 388.0
    busy = phases(wall, 0.01, 0.02, 0.93, 0.0, 0.03, 0.01)
    made = run(
        device="cuda",
        phases=busy,
        step_ms=step_times(wall),
        series=series(500, wall, 3.0),
        compute=msgspec.structs.replace(
            COMPUTE, forward_ms=118.0, backward_ms=230.0, optimizer_ms=12.0
        ),
        machines=[machine("gpu-a", gpus=1)],
        environment=GPU_ENVIRONMENT,
    )
    tf32 = advice(
        "tf32",
        ARITHMETIC,
        title="Multiply float32 matrices in TF32",
        gain=Gain(low=1.9, high=3.4, model="Amdahl: 74 % of the step runs 2.8 to 7 times as fast"),
        safety="rounding",
        by_hand='torch.set_float32_matmul_precision("high")',
        reason="74 % of each step is float32 arithmetic on a device with TF32 units.",
    )
    return view(made, ARITHMETIC, "Compute takes 93 % of each step: float32 arithmetic.", tf32)


def ranks_with_a_straggler(count: int = 8, late: int = 5) -> View:
    wall = 206.0
    members = []
    for rank in range(count):
        shares = (
            (0.33, 0.0, 0.55, 0.05, 0.06, 0.01)
            if rank == late
            else (0.02, 0.0, 0.55, 0.36, 0.06, 0.01)
        )
        members.append(
            Rank(
                rank=rank,
                node=f"node-{rank // 4}",
                pid=1000 + rank,
                device=f"cuda:{rank % 4}",
                steps=400,
                step_ms=step_times(wall),
                phases=phases(wall, *shares),
                peak_memory_bytes=6_000_000_000,
                peak_device_bytes=60_000_000_000,
                device_memory_bytes=150_000_000_000,
            )
        )
    nodes = [machine(f"node-{k}", gpus=4, cpu=0.7) for k in range(max(1, count // 4))]
    made = run(
        device="cuda",
        world_size=count,
        ranks=members,
        machines=nodes,
        phases=phases(wall, 0.05, 0.0, 0.55, 0.33, 0.06, 0.01),
        step_ms=step_times(wall),
        series=series(400, wall, 8.0),
        environment=GPU_ENVIRONMENT,
        communication=Communication(
            total_ms=88.0,
            exposed_ms=68.0,
            transfer_ms=7.4,
            waiting_ms=60.6,
            late_rank=late,
            late_rank_share=0.88,
            late_rank_phase="data_loading",
            collectives=14,
            bytes=512e6,
        ),
        command=["torchrun", "--nproc-per-node", "4", "train.py"],
        not_measured=[],
    )
    fix = advice(
        "loader-workers",
        STRAGGLER,
        title="Prepare batches in worker processes",
        gain=Gain(low=1.2, high=1.45, model="ceiling of the waiting"),
        safety="reseeded",
        by_hand="DataLoader(dataset, ..., num_workers=8)",
        reason="Rank 5 waits 68 ms a step for input; the other ranks 4 ms.",
    )
    return view(made, STRAGGLER, "Rank 5 is late: 31 % of each step is spent waiting for it.", fix)


def large() -> View:
    """Return as much as a report ever has to show.

    64 ranks, 2,000 points, 600 samples of 8 GPUs.
    """
    many = ranks_with_a_straggler(64)
    whole = msgspec.structs.replace(
        many.run,
        series=series(2000, 206.0, 8.0),
        machines=[machine(f"node-{k}", gpus=8, cpu=0.7, count=600) for k in range(8)],
        timelines=[gpu_timeline(206.0)],
        lines=many.run.lines * 13,
    )
    return View(run=whole, judgement=many.judgement, advice=loader_bound().advice * 4)


def hostile_names() -> View:
    evil = HOSTILE
    wall = 41.2
    made = run(
        name=evil,
        command=["python", evil],
        cwd=f"/tmp/{evil}",
        folder=evil,
        step_definition=evil,
        loaders=[
            loader(
                dataset=evil,
                where=f"{evil}:3",
                transforms=[Transform(name=evil, ms_per_sample=0.3, calls=3)],
            )
        ],
        lines=[
            Line(
                where=evil,
                function=evil,
                phase="host",
                kind="python",
                share=0.1,
                ms=4.0,
                code=evil,
            )
        ],
        compute=msgspec.structs.replace(
            COMPUTE,
            operators=[Operator(name=evil, kind="other", ms=1.0, calls=2)],
            kinds={evil: 1.0},
        ),
        timelines=[
            Timeline(
                rank=0,
                step=3,
                wall_ms=wall,
                lanes=[
                    Lane(name=evil, bars=[Bar(start_ms=0, end_ms=9, phase="compute", label=evil)])
                ],
            )
        ],
        machines=[machine(evil)],
        notes=[evil],
        changes=[evil],
        environment=Environment(python=evil, torch=evil, flags={evil: evil}),
        not_measured=[NotMeasured(what=evil, why=evil)],
    )
    finding = hostile_finding(evil)
    remedy = advice(
        "loader-workers",
        finding,
        title=evil,
        gain=Gain(low=1.1, high=1.2, model=evil),
        parameters={evil: evil},
        by_hand=evil,
        reason=evil,
        source=evil,
    )
    return view(made, finding, f"Data loading: {evil}", remedy)


def hostile_finding(evil: str) -> Finding:
    """Return a finding whose evidence is the hostile text."""
    from dataclasses import replace

    return replace(PREPARATION, evidence=evil, where=f"{evil}:41")


VIEWS = {
    "loader_bound": loader_bound,
    "compute_bound": compute_bound,
    "gpu_with_copies": gpu_with_copies,
    "ranks_with_a_straggler": ranks_with_a_straggler,
    "large": large,
    "balanced": balanced,
    "no_steps": no_steps,
    "unfinished": unfinished,
    "nothing_measured": nothing_measured,
    "hostile_names": hostile_names,
}
