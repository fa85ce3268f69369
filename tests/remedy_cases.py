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
    CONVOLUTIONS,
    Case,
    Make,
    computing,
    flagged,
    gpu,
    hosting,
    on_cpu,
    updating,
)

from speedprof.profiler.run import Environment

APPLIES: dict[str, Make] = {
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
