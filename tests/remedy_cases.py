"""Where each remedy applies, where it does not and why, and where that is not known."""

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
    return gpu({"host": 0.05}, compute=runs.compute(bound, **inside), **facts)


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


APPLIES: dict[str, Make] = {
    "loader-workers": lambda: loading(runs.preparing(0, 50.0)),
    "persistent-workers": lambda: loading(
        runs.preparing(2, 90.0, iterations=20, startup_ms=300.0, first_batch_ms=500.0)
    ),
    "in-process-loading": lambda: loading(runs.preparing(2, 10.0)),
    "generator-to-loader": generated,
    "cache-samples": lambda: loading(runs.preparing(0, 50.0, transforms=CHAIN)),
    "nearer-storage": lambda: loading(runs.fetching(0, 50.0)),
    "faster-decoding": lambda: loading(runs.preparing(0, 50.0, transforms=CHAIN)),
    "fewer-threads": lambda: loading(runs.preparing(1, 90.0, queued_ms=40.0)),
    "smaller-batches": lambda: loading(runs.preparing(2, 10.0, batch_bytes=64 << 20)),
    "pin-memory": copying,
    "non-blocking-copies": copying,
    "tf32": lambda: flagged({"float32_matmul_precision": "highest"}, models=[runs.model()]),
    "bf16-autocast": lambda: computing(models=[runs.model()]),
    "channels-last": lambda: gpu(compute=runs.compute(kinds=CONVOLUTIONS)),
    "compile-model": lambda: computing("memory_bandwidth", models=[runs.model()]),
    "fused-optimizer": updating,
    "deferred-reading": lambda: hosting(sync_calls=[runs.sync_call()]),
    "rarer-work": lambda: hosting(lines=[runs.line("host", "python", 0.3)]),
    "collect-garbage-less": lambda: hosting(garbage_ms=12.0),
    "expandable-segments": lambda: gpu({"host": 0.3}),
    "rarer-checkpoints": lambda: runs.run(
        {"outside": 0.3}, outside=runs.outside(checkpoint_ms=30)
    ),
    "rarer-evaluation": lambda: runs.run({"outside": 0.3}, outside=runs.outside(evaluation_ms=30)),
    "balanced-ranks": waiting,
    "ddp-buckets": lambda: talking(**DDP),
    "bf16-gradients": lambda: talking(**DDP),
    "fewer-exchanges": lambda: talking(**DDP),
    "larger-batch": lambda: hosting(loaders=[runs.loader()]),
}

MISFITS: dict[str, list[Case]] = {
    "loader-workers": [
        (lambda: loading(runs.preparing(2, 150.0)), "more workers than 2 gain nothing"),
        (lambda: loading(runs.preparing(0, 50.0, iterable=True)), "every worker would yield all"),
        (
            lambda: loading(runs.preparing(0, 50.0, picklable=False, start_method="spawn")),
            "cannot be pickled",
        ),
        (generated, "no DataLoader"),
    ],
    "persistent-workers": [
        (
            lambda: loading(runs.preparing(2, persistent_workers=True, startup_ms=9.0)),
            "kept already",
        ),
        (lambda: loading(runs.preparing(0)), "no worker processes"),
    ],
    "in-process-loading": [
        (lambda: loading(runs.preparing(2, 80.0)), "more than waiting for them"),
        (lambda: loading(runs.preparing(0)), "already"),
    ],
    "generator-to-loader": [(lambda: loading(runs.preparing(0)), "do not come from")],
    "cache-samples": [
        (lambda: loading(runs.preparing(0, length=10_000_000)), "would be kept"),
        (lambda: loading(runs.preparing(0, iterable=True)), "no indexed samples"),
        (lambda: loading(runs.preparing(0, 50.0, transforms=AUGMENTED)), "the same each time"),
        (generated, "no DataLoader"),
    ],
    "nearer-storage": [(generated, "no DataLoader")],
    "faster-decoding": [
        (lambda: loading(runs.preparing(0, dataset="TokenDataset")), "not seen to decode images"),
        (
            lambda: loading(
                runs.preparing(
                    0, 50.0, transforms=[Transform(name="ToTensor", ms_per_sample=0.7, calls=9)]
                )
            ),
            "only",
        ),
        (generated, "no DataLoader"),
    ],
    "fewer-threads": [
        (
            lambda: loading(runs.preparing(2), machines=[runs.machine(16)]),
            "fit on 16 cores",
        ),
        (
            lambda: loading(runs.preparing(4), environment=Environment(threads=1)),
            "alone fill",
        ),
    ],
    "smaller-batches": [
        (lambda: loading(runs.preparing(2, batch_bytes=4096)), "its size is not what it costs")
    ],
    "pin-memory": [
        (lambda: copying(loaders=[runs.loader(pin_memory=True)]), "pins its batches already"),
        (lambda: copying(device="cpu"), "runs on cpu"),
        (lambda: copying(loaders=[]), "no DataLoader"),
        (lambda: copying(loaders=[runs.loader(batch_bytes=4 << 30)]), "too much"),
    ],
    "non-blocking-copies": [(lambda: copying(device="cpu"), "runs on cpu")],
    "tf32": [
        (lambda: flagged({"float32_matmul_precision": "high"}), "already"),
        (lambda: on_cpu({}), "NVIDIA"),
        (
            lambda: flagged({"float32_matmul_precision": "highest"}, name="Tesla V100"),
            "TF32 units",
        ),
        (
            lambda: flagged(
                {"float32_matmul_precision": "highest"}, models=[runs.model(dtypes=["bfloat16"])]
            ),
            "bfloat16",
        ),
    ],
    "bf16-autocast": [
        (lambda: on_cpu({"cpu_bf16": "no"}), "slower"),
        (lambda: computing(name="Tesla V100-SXM2"), "no bf16 units"),
        (lambda: computing(models=[runs.model(dtypes=["bfloat16"])]), "already"),
        (lambda: gpu(compute=runs.compute(kinds={"elementwise": 9.0})), "only"),
        (lambda: computing(device="mps"), "mps"),
    ],
    "channels-last": [
        (computing, "10 % of the step are convolutions"),
        (lambda: computing(device="mps"), "mps"),
    ],
    "compile-model": [
        (lambda: computing(models=[runs.model(compiled=True)]), "compiled already"),
        (
            lambda: gpu(compute=runs.compute(kinds={"matmul": 9.0}), models=[runs.model()]),
            "operators that fuse",
        ),
    ],
    "fused-optimizer": [
        (lambda: updating(fused=True), "fused already"),
        (lambda: updating(name="RMSprop"), "no fused implementation"),
        (lambda: updating(2.0), "only 2.0 %"),
    ],
    "deferred-reading": [],
    "rarer-work": [],
    "collect-garbage-less": [(lambda: hosting(garbage_ms=0.5), "only 0.5 %")],
    "expandable-segments": [
        (hosting, "runs on cpu"),
        (
            lambda: gpu(
                {"host": 0.3},
                environment=Environment(
                    flags={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
                ),
            ),
            "already",
        ),
    ],
    "rarer-checkpoints": [],
    "rarer-evaluation": [],
    "balanced-ranks": [(lambda: waiting(late_rank=None), "no one rank")],
    "ddp-buckets": [(lambda: talking(models=[runs.model()]), "DistributedDataParallel")],
    "bf16-gradients": [
        (
            lambda: talking(communication=runs.communication(transfer_ms=40.0, bytes=4e9), **DDP),
            "fast link",
        ),
        (lambda: talking(models=[runs.model()]), "DistributedDataParallel"),
    ],
    "fewer-exchanges": [(talking, "DistributedDataParallel")],
    "larger-batch": [
        (lambda: hosting(loaders=[runs.loader()], ranks=[full_device(90)]), "90 % full")
    ],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "loader-workers": [
        lambda: loading(runs.loader()),
        lambda: loading(runs.preparing(0), machines=[]),
    ],
    "persistent-workers": [lambda: loading(runs.preparing(2))],
    "in-process-loading": [lambda: loading(runs.loader(2))],
    "generator-to-loader": [lambda: generated(machines=[])],
    "cache-samples": [
        lambda: loading(runs.loader()),
        lambda: loading(runs.preparing(0, batch_bytes=None)),
        lambda: loading(runs.preparing(0), machines=[]),
    ],
    "nearer-storage": [lambda: loading(runs.loader())],
    "faster-decoding": [lambda: loading(runs.preparing(0)), lambda: loading(runs.loader())],
    "fewer-threads": [
        lambda: loading(runs.preparing(2), machines=[]),
        lambda: loading(runs.preparing(2), environment=Environment()),
    ],
    "smaller-batches": [lambda: loading(runs.preparing(2, batch_bytes=None))],
    "pin-memory": [],
    "non-blocking-copies": [lambda: gpu({COPYING: 0.3})],
    "tf32": [
        lambda: flagged({}),
        lambda: gpu(
            compute=runs.compute(),
            environment=Environment(flags={"float32_matmul_precision": "highest"}),
        ),
    ],
    "bf16-autocast": [lambda: on_cpu({}), lambda: gpu(compute=runs.compute())],
    "channels-last": [lambda: gpu(compute=runs.compute()), gpu],
    "compile-model": [computing, lambda: gpu(compute=runs.compute(), models=[runs.model()])],
    "fused-optimizer": [gpu, lambda: gpu(optimizers=[runs.optimizer()])],
    "deferred-reading": [hosting],
    "rarer-work": [hosting],
    "collect-garbage-less": [hosting],
    "expandable-segments": [],
    "rarer-checkpoints": [lambda: runs.run({"outside": 0.3})],
    "rarer-evaluation": [lambda: runs.run({"outside": 0.3})],
    "balanced-ranks": [lambda: runs.run({TALKING: 0.4})],
    "ddp-buckets": [talking],
    "bf16-gradients": [lambda: runs.run({TALKING: 0.4}, **DDP)],
    "fewer-exchanges": [lambda: talking(**DDP, batches_per_step=None)],
    "larger-batch": [hosting],
}
