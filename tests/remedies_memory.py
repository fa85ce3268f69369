"""Cases of mitigations/memory: where each applies, where not and why, where that is unknown."""

from __future__ import annotations

import runs
from case_runs import Case, Make, full_device, gpu

from speedprof.profiler.run import Environment, Run

WEIGHTS = 3_000_000_000  # 12 GB in float32; with gradients and Adam's state 48 of 97 GB in use
LAYERS = {"Linear": 128, "Embedding": 1}
ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
GIB = 1 << 30


def large(**facts: object) -> object:
    given: dict[str, object] = {
        "parameters": WEIGHTS, "bytes": 4 * WEIGHTS, "modules": LAYERS, "trainable": WEIGHTS,
        "checkpointed": False, "wrapped": "DistributedDataParallel",
    }  # fmt: skip
    return runs.model(**(given | facts))


def filled(
    percent: int = 90, optimizer: str = "AdamW", weights: int = WEIGHTS, **facts: object
) -> Run:
    """Return a run whose host and exchange take half of the step, and whose memory is full."""
    given: dict[str, object] = {
        "ranks": [full_device(percent)],
        "models": [large()],
        "optimizers": [runs.optimizer(name=optimizer, elements=weights)],
        "compute": runs.compute(forward_ms=15.0, backward_ms=30.0, optimizer_ms=5.0),
        "host": runs.host(launch_ms=25.0, python_ms=5.0),
        "world_size": 8,
    }
    return gpu({"host": 0.3, "communication": 0.2}, **(given | facts))


def lean(**facts: object) -> Run:
    """Return a run of one small model, whose activations fill the memory, and little to spread."""
    compute = runs.compute(forward_ms=30.0, backward_ms=60.0, optimizer_ms=1.0)
    small = [runs.model(checkpointed=False, modules=LAYERS, trainable=25_000_000,
                        wrapped="DistributedDataParallel")]  # fmt: skip
    given = {"ranks": [full_device(90)], "models": small, "optimizers": [runs.optimizer()]}
    return gpu({"host": 0.02}, **(given | {"compute": compute, "world_size": 8} | facts))


def slow(rate: float | None = 25.0, host_gib: int = 128, **facts: object) -> Run:
    """Return steps of ten seconds, mostly exchange, beside which copies over PCIe are short."""
    given: dict[str, object] = {
        "step_ms": 10_000.0,
        "ranks": [full_device(90)],
        "models": [large()],
        "optimizers": [runs.optimizer(elements=WEIGHTS)],
        "compute": runs.compute(),
        "copies": runs.copies(gb_per_s=rate),
        "machines": [runs.machine(16, memory_bytes=host_gib * GIB)],
    }
    return gpu({"host": 0.05, "communication": 0.4}, **(given | facts))


def accumulating(batches: float | None = 16.0, percent: int = 60, **facts: object) -> Run:
    given: dict[str, object] = {
        "batches_per_step": batches,
        "loaders": [runs.loader(batch_size=4)],
    }
    return filled(percent, **(given | facts))


APPLIES: dict[str, Make] = {
    "expandable-segments": lambda: gpu({"host": 0.3}),
    "gradient-accumulation": accumulating,
    "sharded-training": filled,
    "activation-checkpointing": filled,
    "offloading": slow,
    "eight-bit-optimizer": filled,
    "adafactor": filled,
    "adapters": filled,
}

ROOMY: Case = (lambda: filled(40), "only 40 % full")
NO_GPU: Case = (lambda: filled(device="cpu"), "runs on cpu")
LITTLE: Case = (lean, "at best")

MISFITS: dict[str, list[Case]] = {
    "expandable-segments": [
        (lambda: gpu({"host": 0.3}, device="cpu"), "runs on cpu"),
        (lambda: gpu({"host": 0.3}, environment=Environment(flags=ALLOCATOR)), "already"),
    ],
    "gradient-accumulation": [
        (lambda: accumulating(1.0), "one batch"),
        (lambda: accumulating(percent=90), "do not fit"),
        (lambda: accumulating(models=[large(modules={"BatchNorm2d": 3})]), "batch norms"),
        (lambda: accumulating(device="cpu"), "runs on cpu"),
    ],
    "sharded-training": [
        ROOMY,
        LITTLE,
        (lambda: filled(world_size=1), "one rank"),
        (lambda: filled(models=[large(wrapped="FullyShardedDataParallel")]), "no model was seen"),
    ],
    "activation-checkpointing": [
        ROOMY,
        NO_GPU,
        LITTLE,
        (lambda: filled(models=[large(checkpointed=True)]), "already"),
    ],
    "offloading": [
        (lambda: slow(host_gib=16), "are needed"),
        (lambda: filled(copies=runs.copies(gb_per_s=25.0),
                        machines=[runs.machine(16, memory_bytes=128 * GIB)]), "at best"),
        (lambda: slow(optimizers=[runs.optimizer(name="SGD", elements=WEIGHTS)]), "less state"),
        ROOMY,
    ],
    "eight-bit-optimizer": [ROOMY, NO_GPU, LITTLE, (lambda: filled(optimizer="SGD"), "no 8-bit")],
    "adafactor": [ROOMY, NO_GPU, LITTLE, (lambda: filled(optimizer="SGD"), "less state")],
    "adapters": [
        ROOMY,
        NO_GPU,
        (lambda: filled(models=[large(trainable=3_000_000)]), "only 0.1 % of the weights"),
        (lambda: filled(models=[large(modules={"Conv2d": 50})]), "no linear layers"),
    ],
}  # fmt: skip

UNKNOWN: list[Make] = [
    lambda: filled(ranks=[]),
    lambda: filled(models=[]),
    lambda: filled(optimizers=[]),
    lambda: filled(phases=None),
]

NOT_MEASURED: dict[str, list[Make]] = {
    "expandable-segments": [lambda: runs.trace({"host": 0.3}, steps=1)],
    "gradient-accumulation": [
        lambda: accumulating(None),
        lambda: accumulating(loaders=[]),
        lambda: accumulating(models=[large(modules=None)]),
        lambda: accumulating(ranks=[]),
    ],
    "sharded-training": UNKNOWN,
    "activation-checkpointing": [
        UNKNOWN[0],
        lambda: filled(models=[large(checkpointed=None)]),
        lambda: filled(compute=runs.compute()),
    ],
    "offloading": [lambda: slow(None), lambda: slow(machines=[]), lambda: slow(ranks=[])],
    "eight-bit-optimizer": UNKNOWN,
    "adafactor": UNKNOWN,
    "adapters": [*UNKNOWN, lambda: filled(models=[large(trainable=None)])],
}
