"""Roofs for tests: of a machine with one GPU, in round numbers."""

from __future__ import annotations

import msgspec

from speedprof.profiler.roofs.roofs import (
    AllReduce,
    Decoding,
    Exchanged,
    Level,
    Memory,
    Processor,
    Roofs,
    Storage,
    Transfers,
)

MACHINE = "0123456789abcdef"


def level(best: float) -> Level:
    return Level(best=best, median=0.9 * best, worst=0.5 * best, repeats=10)


def roofs(**changes: object) -> Roofs:
    """Return everything that can be measured, with some of it changed."""
    parts = ("storage", "decode", "memory", "matmul", "convolution", "dispatch")
    made = Roofs(
        machine=MACHINE,
        node="lab-3",
        cpu="an x86 CPU",
        cores=4,
        memory_bytes=16_000_000_000,
        gpus=["NVIDIA A100-SXM4-80GB"],
        measured_at=dict.fromkeys((*parts, "device-memory", "copies", "all-reduce"), 1.77e9),
        other_cores=dict.fromkeys(parts, 0.0),
        present_cores=4,
        version="0.1.0",
        python="3.11.7",
        torch="2.9.0",
        storage=[
            storage("/", sequential_gb_per_s=level(2.0), parallel_gb_per_s=level(4.0)),
            storage("/data", sequential_gb_per_s=level(1.0), parallel_gb_per_s=level(0.5)),
        ],
        decoding=Decoding(
            width=500,
            height=375,
            bytes=100_000,
            images_per_s={"torchvision": level(600.0), "pillow": level(500.0)},
        ),
        memory=Memory(
            bytes=256 << 20,
            threads=4,
            one_thread_gb_per_s=level(10.0),
            all_threads_gb_per_s=level(30.0),
        ),
        processor=Processor(
            name="an x86 CPU",
            matmul_tflops={"fp32": level(0.2), "bf16": level(0.4)},
            convolution_tflops={"fp32": level(0.1)},
            operators_per_s=level(1e6),
        ),
        gpu=Processor(
            name="NVIDIA A100-SXM4-80GB",
            matmul_tflops={"fp32": level(18.0), "tf32": level(120.0), "bf16": level(240.0)},
            convolution_tflops={"fp32": level(15.0), "bf16": level(200.0)},
            operators_per_s=level(200_000.0),
            memory_gb_per_s=level(1_700.0),
        ),
        transfers=Transfers(
            bytes=256 << 20, pinned_gb_per_s=level(25.0), pageable_gb_per_s=level(8.0)
        ),
        all_reduce=[
            AllReduce(
                backend="gloo",
                ranks=2,
                sizes=[
                    Exchanged(bytes=4096, gb_per_s=level(0.1)),
                    Exchanged(bytes=1 << 20, gb_per_s=level(4.0)),
                ],
            )
        ],
    )
    return msgspec.structs.replace(made, **changes)


def storage(mount: str, **changes: object) -> Storage:
    made = Storage(
        folder=mount,
        mount=mount,
        readers=8,
        large_bytes=256 << 20,
        small_bytes=110_000,
        small_files=256,
        small_files_per_s=level(1_000.0),
        parallel_files_per_s=level(5_000.0),
        cold=1.0,
    )
    return msgspec.structs.replace(made, **changes)


def nothing() -> Roofs:
    """Return the roofs of a machine on which nothing could be measured."""
    return Roofs(machine=MACHINE, node="lab-3", cores=1, absent={"memory": "no memory is free"})
