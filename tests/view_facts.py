"""Views for report tests.

Runs as they turn out on real machines, with a judgement and advice written out.
"""

from __future__ import annotations

import random

import msgspec

from speedprof.profiler.run import (
    PHASES,
    Bar,
    Compute,
    Environment,
    GpuSample,
    Lane,
    Line,
    Loader,
    Machine,
    Operator,
    Phase,
    Sample,
    StepSeries,
    StepTimes,
    Timeline,
    Transform,
)

HOSTILE = (
    "\"'></script><script>alert(1)</script>\n\x1b[31mred\x1b[0m\x07\u202eevil\udcff${x}$é漢 & <b>"
)


def phases(step_ms: float, *shares: float) -> dict[str, Phase]:
    return {
        name: Phase(
            share=share,
            low=max(share - 0.02, 0.0),
            high=min(share + 0.02, 1.0),
            ms=share * step_ms,
        )
        for name, share in zip(PHASES, shares, strict=True)
    }


def step_times(mean_ms: float, count: int = 312, batch: int = 32) -> StepTimes:
    return StepTimes(
        count=count,
        mean_ms=mean_ms,
        median_ms=mean_ms * 0.985,
        p10_ms=mean_ms * 0.95,
        p90_ms=mean_ms * 1.12,
        samples_per_s=batch * 1000 / mean_ms,
        low_ms=mean_ms * 0.98,
        high_ms=mean_ms * 1.02,
    )


def series(points: int, wall_ms: float, wait_ms: float) -> StepSeries:
    draw = random.Random(7)
    wall = [wall_ms * draw.lognormvariate(0, 0.06) for _ in range(points)]
    wall[:3] = [wall_ms * 4, wall_ms * 2, wall_ms * 1.5]
    starts = [0.0]
    for one in wall[:-1]:
        starts.append(starts[-1] + one / 1000)
    return StepSeries(
        start_s=starts,
        wall_ms=wall,
        input_wait_ms=[min(one, wait_ms * draw.uniform(0.8, 1.2)) for one in wall],
        outside_ms=[0.0 if k % 100 else wall_ms * 0.4 for k in range(points)],
        traced=[k % 150 in range(40, 46) for k in range(points)],
    )


def samples(count: int, gpus: int = 0, cpu: float = 0.6) -> list[Sample]:
    draw = random.Random(11)
    return [
        Sample(
            at_s=k * 0.25,
            cpu=min(1.0, cpu * draw.uniform(0.9, 1.2)),
            tree_cpu=min(1.0, cpu * draw.uniform(0.8, 1.0)),
            memory_bytes=int(2.1e9 + 4e6 * k),
            available_bytes=int(9e9 - 4e6 * k),
            read_bytes_per_s=draw.uniform(20e6, 40e6),
            write_bytes_per_s=draw.uniform(0, 2e6),
            sent_bytes_per_s=draw.uniform(0, 1e6),
            received_bytes_per_s=draw.uniform(0, 1e6),
            gpus=[
                GpuSample(
                    index=g,
                    utilisation=min(1.0, draw.uniform(0.5, 0.9)),
                    memory_bytes=int(41e9),
                    pcie_received_bytes_per_s=draw.uniform(2e9, 5e9),
                    sm_mhz=1755,
                    power_w=draw.uniform(380, 540),
                )
                for g in range(gpus)
            ],
        )
        for k in range(count)
    ]


def machine(node: str = "lab-3", *, gpus: int = 0, cpu: float = 0.6, count: int = 120) -> Machine:
    return Machine(
        node=node,
        cpu="AMD EPYC 9354 32-Core Processor",
        cores=16,
        memory_bytes=128 << 30,
        gpus=["NVIDIA H200"] * gpus,
        samples=samples(count, gpus, cpu),
        cpu_load=cpu,
        other_load=0.03,
    )


def loader(**changes: object) -> Loader:
    return msgspec.structs.replace(
        Loader(
            number=0,
            role="training",
            where="train.py:41",
            dataset="ImageFolder",
            iterable=False,
            length=9984,
            batch_size=32,
            num_workers=0,
            pin_memory=False,
            persistent_workers=False,
            prefetch_factor=None,
            start_method=None,
            batches=312,
            iterations=1,
            explicit=["batch_size", "shuffle"],
            picklable=True,
            wait_ms=25.1,
            startup_ms=1.8,
            first_batch_ms=31.0,
            batch_bytes=32 * 3 * 224 * 224 * 4,
            getitem_ms=23.2,
            getitem_cpu_ms=22.4,
            collate_ms=1.6,
            collate_cpu_ms=1.6,
            queued_ms=0.2,
            storage_wait_ms=0.6,
            read_bytes=3.4e6,
            disk_bytes=0.0,
            transforms=[
                Transform(name="RandomResizedCrop", ms_per_sample=0.31, calls=9984),
                Transform(name="RandomHorizontalFlip", ms_per_sample=0.02, calls=9984),
                Transform(name="ToTensor", ms_per_sample=0.09, calls=9984),
                Transform(name="Normalize", ms_per_sample=0.05, calls=9984),
            ],
        ),
        **changes,
    )


OPERATORS = [
    Operator(name="aten::convolution_backward", kind="convolution", ms=4.1, calls=20),
    Operator(name="aten::mkldnn_convolution", kind="convolution", ms=2.6, calls=20),
    Operator(name="aten::native_batch_norm", kind="normalisation", ms=0.9, calls=20),
    Operator(name="aten::threshold_backward", kind="elementwise", ms=0.5, calls=17),
    Operator(name="aten::_foreach_add_", kind="optimizer", ms=0.4, calls=4),
    Operator(name="aten::addmm", kind="matmul", ms=0.2, calls=1),
]
COMPUTE = Compute(
    forward_ms=3.9,
    backward_ms=5.3,
    optimizer_ms=0.6,
    kinds={
        "convolution": 6.7,
        "normalisation": 1.3,
        "elementwise": 0.9,
        "optimizer": 0.5,
        "matmul": 0.2,
        "other": 0.2,
    },
    operators=OPERATORS,
    operators_per_step=412,
    bound="arithmetic",
)
LINES = [
    Line(
        where="train.py:41",
        function="<listcomp>",
        phase="data_loading",
        kind="batches",
        share=0.48,
        ms=19.8,
        code="images, labels = next(batches)",
    ),
    Line(
        where="train.py:58",
        function="train",
        phase="host",
        kind="python",
        share=0.03,
        ms=1.2,
        code="history.append(float(loss))",
    ),
    Line(
        where="train.py:66",
        function="save",
        phase="outside",
        kind="checkpoint",
        share=0.02,
        ms=0.8,
        code="torch.save(model.state_dict(), path)",
    ),
]
ENVIRONMENT = Environment(
    python="3.12.4",
    torch="2.11.0",
    cuda="13.0",
    torchvision="0.26.0",
    threads=8,
    flags={"tf32": "off", "cudnn.benchmark": "off", "OMP_NUM_THREADS": "8"},
)


def timeline(wall: float, *bars: tuple[str, float, float, str, str], rank: int = 0) -> Timeline:
    lanes: dict[str, list[Bar]] = {}
    for lane, start, end, phase, label in bars:
        lanes.setdefault(lane, []).append(
            Bar(start_ms=start * wall, end_ms=end * wall, phase=phase, label=label)
        )
    named = [Lane(name=name, bars=items) for name, items in lanes.items()]
    return Timeline(rank=rank, step=45, wall_ms=wall, lanes=named)
