"""Runs that cases of remedies start from: slow loading or copying, busy devices, late ranks."""

from __future__ import annotations

from collections.abc import Callable

import runs

from speedprof.profiler.run import Environment, Rank, Run, Transform

Make = Callable[[], Run]
Case = tuple[Make, str]  # a run, and a word of the reason

LOADING, COPYING, TALKING = "data_loading", "host_to_device", "communication"
KINDS = {"matmul": 60.0, "convolution": 10.0, "elementwise": 20.0, "normalisation": 10.0}
CONVOLUTIONS = {"convolution": 80.0, "normalisation": 10.0, "elementwise": 10.0}
CHAIN = [
    Transform(name="Resize", ms_per_sample=0.4, calls=640),
    Transform(name="Normalize", ms_per_sample=0.1, calls=640),
]
AUGMENTED = [Transform(name="RandomResizedCrop", ms_per_sample=0.75, calls=640), *CHAIN[1:]]
DDP = {"models": [runs.model(wrapped="DistributedDataParallel")], "world_size": 2}


def loading(loader: object, share: float = 0.5, **facts: object) -> Run:
    return runs.run({LOADING: share}, loaders=[loader], **facts)


def gpu(shares: dict[str, float] | None = None, name: str = "NVIDIA H100", **facts: object) -> Run:
    given = {
        "device": "cuda",
        "machines": [runs.machine(16, gpus=[name])],
        "loaders": [runs.loader()],
    }
    return runs.run(shares, **(given | facts))


def copying(**facts: object) -> Run:
    return gpu({COPYING: 0.3}, copies=runs.copies(pageable_ms=20.0, blocking_ms=20.0), **facts)


def computing(bound: str | None = "arithmetic", **facts: object) -> Run:
    inside = {"kinds": KINDS, "operators_per_step": 900.0}
    return gpu({"host": 0.05}, **({"compute": runs.compute(bound, **inside)} | facts))


def flagged(flags: dict[str, str], **facts: object) -> Run:
    return computing(environment=Environment(threads=2, flags=flags), **facts)


def on_cpu(flags: dict[str, str], **facts: object) -> Run:
    return flagged(flags, device="cpu", machines=[runs.machine(2)], **facts)


def updating(share_ms: float = 30.0, device: str = "cuda", **optimizer: object) -> Run:
    inside = runs.compute(None, optimizer_ms=share_ms)
    return runs.run(compute=inside, device=device, optimizers=[runs.optimizer(**optimizer)])


def hosting(**facts: object) -> Run:
    return runs.run({"host": 0.4}, **facts)


def talking(**facts: object) -> Run:
    slow = {"transfer_ms": 40.0, "waiting_ms": 0.0, "bytes": 4e7, "collectives": 4.0}
    return runs.run({TALKING: 0.4}, **({"communication": runs.communication(**slow)} | facts))


def waiting(**facts: object) -> Run:
    late = {"transfer_ms": 4.0, "waiting_ms": 36.0, "late_rank": 1, "late_rank_share": 0.9}
    exchange = runs.communication(**(late | facts))
    return runs.run({TALKING: 0.4}, communication=exchange, world_size=2)


def full_device(peak: int) -> Rank:
    return Rank(
        rank=0, node="node0", pid=1, device="cuda", steps=200, step_ms=None, phases=None,
        peak_device_bytes=peak << 30, device_memory_bytes=100 << 30,
    )  # fmt: skip


def generated(kind: str = "python", **facts: object) -> Run:
    lines = [runs.line(LOADING, kind, 0.6, "train.py:20")]
    return runs.run({LOADING: 0.6}, input_kind="generator", lines=lines, **facts)
