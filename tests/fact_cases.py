"""Facts that few runs have: looks at a machine, its roofs, batches of ids, exchanges of DDP."""

from __future__ import annotations

import runs

from speedprof.profiler.roofs.roofs import (
    AllReduce,
    Exchanged,
    Level,
    Processor,
    Roofs,
    Storage,
    Transfers,
)
from speedprof.profiler.run import Batch, Exchange, GpuSample, Machine, Model, Sample


def batch(padding: float | None = None, distinct: int = 1, **facts: object) -> Batch:
    """Return 64 looks at batches of 32 rows of 128 ids."""
    fields: dict[str, object] = {
        "shapes": [[32, 128]],
        "dtypes": ["int64"],
        "distinct": distinct,
        "looked_at": 64,
        "padding": padding,
    }
    return Batch(**(fields | facts))  # type: ignore[arg-type]


def gpu_look(**facts: object) -> GpuSample:
    """Return a look at a GPU that works at its highest clock."""
    fields: dict[str, object] = {
        "index": 0,
        "utilisation": 0.95,
        "sm_mhz": 1980,
        "max_sm_mhz": 1980,
    }
    return GpuSample(**(fields | facts))  # type: ignore[arg-type]


def look(*gpus: GpuSample, available_gb: float = 8.0) -> Sample:
    return Sample(
        at_s=1.0,
        cpu=0.5,
        tree_cpu=0.5,
        memory_bytes=1 << 30,
        available_bytes=int(available_gb * 2**30),
        gpus=list(gpus),
    )


def watched(*gpus: GpuSample, count: int = 10) -> Machine:
    """Return a machine that was looked at so often, its GPUs in turn as given."""
    return runs.machine(16, samples=[look(gpus[at % len(gpus)]) for at in range(count)])


def level(best: float) -> Level:
    return Level(best=best, median=best, worst=best, repeats=3)


def roofs() -> Roofs:
    """Return a machine of 0.5 GB/s storage, 25 GB/s to the GPU and 2 GB/s of all-reduce."""
    storage = Storage(
        folder="/home", mount="/", sequential_gb_per_s=level(0.2), parallel_gb_per_s=level(0.5)
    )
    return Roofs(
        machine="m",
        node="node0",
        cores=2.0,
        storage=[storage],
        processor=Processor(name="a CPU", matmul_tflops={"fp32": level(1.5)}),
        transfers=Transfers(
            bytes=1 << 26, pinned_gb_per_s=level(25.0), pageable_gb_per_s=level(6.0)
        ),
        all_reduce=[
            AllReduce(
                backend="gloo",
                ranks=2,
                sizes=[
                    Exchanged(bytes=1 << 10, gb_per_s=level(0.1)),
                    Exchanged(bytes=1 << 24, gb_per_s=level(2.0)),
                ],
            )
        ],
    )


def parallel(unsynchronised: float | None = 0.0, **exchange: object) -> Model:
    """Return a model in DistributedDataParallel."""
    facts = Exchange(unsynchronised=unsynchronised, **exchange)  # type: ignore[arg-type]
    return runs.model(wrapped="DistributedDataParallel", exchange=facts)
