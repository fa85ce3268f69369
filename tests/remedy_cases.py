"""Where each remedy applies, where it does not and why, and where that is not known."""

from __future__ import annotations

import remedies_communication
import remedies_compute
import remedies_copies
import remedies_host
import remedies_loading
import remedies_memory
import remedies_training
import runs
from case_runs import (
    AUGMENTED,
    CHAIN,
    CONVOLUTIONS,
    COPYING,
    Case,
    Make,
    computing,
    copying,
    flagged,
    generated,
    gpu,
    hosting,
    loading,
    on_cpu,
    updating,
)

from speedprof.profiler.run import Environment, Transform

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
}

for _folder in (
    remedies_loading,
    remedies_copies,
    remedies_compute,
    remedies_host,
    remedies_memory,
    remedies_communication,
    remedies_training,
):
    APPLIES |= _folder.APPLIES
    MISFITS |= _folder.MISFITS
    NOT_MEASURED |= _folder.NOT_MEASURED
