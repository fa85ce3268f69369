"""Cases of mitigations/compute: where each applies, where not and why, where that is unknown."""

from __future__ import annotations

import runs
from case_runs import CONVOLUTIONS, Case, Make, computing, flagged, gpu, on_cpu, updating

from speedprof.profiler.run import Batch, Operator, Run

WHOLE = {"float32_matmul_precision": "highest"}
HALF = {"autocast": "bfloat16"}
FIXED = Batch(shapes=[[64, 3, 224, 224]], dtypes=["float32"], distinct=1, looked_at=64)
VARIED = Batch(shapes=[[64, 512]], dtypes=["int64"], distinct=9, looked_at=64)
STREAMING = {"normalisation": 40.0, "elementwise": 40.0, "matmul": 20.0}
ROWS = {"matmul": 60.0, "reduction": 20.0, "elementwise": 20.0}
RESNET = {"Conv2d": 53, "BatchNorm2d": 53}


def imaging(flags: dict[str, str] | None = None, **facts: object) -> Run:
    given = {
        "compute": runs.compute("arithmetic", kinds=CONVOLUTIONS),
        "models": [runs.model(channels_last=False)],
        "batch": FIXED,
    }
    return flagged(flags or {}, **(given | facts))


def launching(operators: float | None = 900.0, **facts: object) -> Run:
    inside = {"compute": runs.compute(operators_per_step=operators), "batch": FIXED}
    return gpu({"host": 0.4}, **({"host": runs.host(launch_ms=40.0)} | inside | facts))


def attending(
    name: str = "softmax_warp_forward",
    calls: float = 24.0,
    fused_ms: float = 0.0,
    ms: float = 12.0,
) -> Run:
    kinds = ROWS | {"attention": fused_ms}
    softmax = Operator(name=name, kind="reduction", ms=ms, calls=calls)
    return gpu(compute=runs.compute(kinds=kinds, operators=[softmax]))


def normalising(flags: dict[str, str], layer: str | None = "LayerNorm", **facts: object) -> Run:
    modules = {layer: 24, "Linear": 48} if layer else None
    given = {"compute": runs.compute("memory_bandwidth", kinds=STREAMING)}
    return flagged(flags, models=[runs.model(modules=modules)], **(given | facts))


def biased(count: int | None, **facts: object) -> Run:
    models = [runs.model(modules=RESNET, biased_before_norm=count)]
    given = {"compute": runs.compute("memory_bandwidth", kinds=STREAMING)}
    return gpu(models=models, **(given | facts))


def odd(sizes: list[int] | None, flags: dict[str, str] | None = None, **facts: object) -> Run:
    given = {"models": [runs.model(odd_dims=sizes)]}
    return flagged(HALF if flags is None else flags, **(given | facts))


def filling(keeps: bool | None, name: str = "aten::zero_", **facts: object) -> Run:
    fill = Operator(name=name, kind="copy", ms=4.0, calls=160.0)
    inside = runs.compute("memory_bandwidth", kinds=STREAMING, operators=[fill])
    given = {"compute": inside, "optimizers": [runs.optimizer(keeps_gradients=keeps)]}
    return gpu(**(given | facts))


APPLIES: dict[str, Make] = {
    "tf32": lambda: flagged(WHOLE, models=[runs.model()]),
    "bf16-autocast": lambda: computing(models=[runs.model()]),
    "fp16-autocast": lambda: computing(models=[runs.model()], name="Tesla V100-SXM2-16GB"),
    "channels-last": imaging,
    "compile-model": lambda: computing("memory_bandwidth", models=[runs.model()]),
    "cuda-graphs": launching,
    "fused-attention": attending,
    "fused-optimizer": updating,
    "cudnn-benchmark": lambda: imaging({"cudnn.benchmark": "False"}),
    "low-precision-norm": lambda: normalising(HALF),
    "no-bias-before-norm": lambda: biased(53),
    "padded-dimensions": lambda: odd([50257, 1027]),
    "set-to-none": lambda: filling(True),
}

MISFITS: dict[str, list[Case]] = {
    "tf32": [
        (lambda: flagged({"float32_matmul_precision": "high"}), "already"),
        (lambda: on_cpu({}), "NVIDIA"),
        (lambda: flagged(WHOLE, name="Tesla V100"), "TF32 units"),
        (lambda: flagged(WHOLE | {"cuda_capability": "7.5"}), "TF32 units"),
        (lambda: flagged(WHOLE, models=[runs.model(dtypes=["bfloat16"])]), "bfloat16"),
        (lambda: flagged(WHOLE | HALF), "by autocast"),
        (lambda: imaging(WHOLE | {"cudnn.allow_tf32": "True"}), "only 0.0 %"),
    ],
    "bf16-autocast": [
        (lambda: on_cpu({"cpu_bf16": "no"}), "slower"),
        (lambda: computing(name="Tesla P100-PCIE-16GB"), "no units for half precision"),
        (lambda: flagged({"cuda_capability": "6.1"}, name="a card"), "capability 6.1"),
        (lambda: computing(models=[runs.model(dtypes=["bfloat16"])]), "already"),
        (lambda: flagged(HALF), "autocast computes in bfloat16 already"),
        (lambda: gpu(compute=runs.compute(kinds={"elementwise": 9.0})), "only"),
        (lambda: computing(device="mps"), "mps"),
        (lambda: flagged({"cuda_capability": "7.5"}, name="a card"), "fp16-autocast is for it"),
    ],
    "fp16-autocast": [
        (lambda: computing(models=[runs.model()]), "needs no scaled loss"),
        (lambda: computing(name="Tesla P100-PCIE-16GB"), "no units for half precision"),
        (lambda: flagged({"autocast": "float16"}, name="Tesla T4"), "in float16 already"),
    ],
    "channels-last": [
        (lambda: computing(models=[runs.model(channels_last=False)]), "10 % of the step are conv"),
        (lambda: computing(device="mps"), "mps"),
        (lambda: imaging(models=[runs.model(channels_last=True)]), "channels last already"),
        (lambda: imaging({"cudnn.allow_tf32": "False"}), "first lower the precision"),
    ],
    "compile-model": [
        (lambda: computing(models=[runs.model(compiled=True)]), "compiled already"),
        (
            lambda: gpu(compute=runs.compute(kinds={"matmul": 9.0}), models=[runs.model()]),
            "operators that fuse",
        ),
        (lambda: flagged({"cuda_capability": "6.1"}, models=[runs.model()]), "has 6.1"),
        (lambda: computing(models=[runs.model()], device="mps"), "mps"),
    ],
    "cuda-graphs": [
        (lambda: launching(device="cpu"), "NVIDIA's"),
        (lambda: launching(batch=VARIED), "9 different ones in 64 batches"),
        (lambda: launching(sync_calls=[runs.sync_call()]), "Tensor.item at train.py:57"),
        (lambda: launching(host=runs.host(launch_ms=1.0)), "only 1.0 %"),
        (
            lambda: launching(models=[runs.model(wrapped="FullyShardedDataParallel")]),
            "sharded model",
        ),
    ],
    "fused-attention": [
        (lambda: attending("log_softmax_forward"), "no softmax of attention"),
        (lambda: attending(calls=2.0), "no softmax of attention"),
        (lambda: attending(fused_ms=40.0), "fused kernels already"),
        (lambda: attending(ms=0.2), "only 0.2 %"),
    ],
    "fused-optimizer": [
        (lambda: updating(fused=True), "fused already"),
        (lambda: updating(name="RMSprop"), "no fused implementation"),
        (lambda: updating(2.0), "only 2.0 %"),
    ],
    "cudnn-benchmark": [
        (lambda: imaging({"cudnn.benchmark": "True"}), "already"),
        (lambda: imaging({"cudnn.benchmark": "False"}, batch=VARIED), "9 different shapes"),
        (lambda: on_cpu({"cudnn.benchmark": "False"}), "runs on cpu"),
        (
            lambda: imaging({"cudnn.benchmark": "False", "cudnn.deterministic": "True"}),
            "deterministic",
        ),
        (lambda: flagged({"cudnn.benchmark": "False"}, batch=FIXED), "only 10 %"),
    ],
    "low-precision-norm": [
        (lambda: normalising({"autocast": "off"}), "without autocast"),
        (lambda: normalising(HALF, "BatchNorm2d"), "no LayerNorm"),
        (lambda: normalising(HALF, compute=runs.compute(kinds={"matmul": 9.0})), "only 0.0 %"),
    ],
    "no-bias-before-norm": [
        (lambda: biased(0), "no convolution before a batch norm"),
        (lambda: biased(1), "at most 0.3 %"),
    ],
    "padded-dimensions": [
        (lambda: odd([]), "multiples of 8"),
        (lambda: odd([50257], WHOLE | {"autocast": "off"}), "plain float32"),
        (lambda: odd([50257], device="cpu"), "runs on cpu"),
        (lambda: odd([50257], compute=runs.compute(kinds=CONVOLUTIONS)), "only 0.0 %"),
    ],
    "set-to-none": [
        (lambda: filling(False), "dropped between updates already"),
        (lambda: filling(True, "aten::mm"), "not among the costliest"),
    ],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "tf32": [
        lambda: flagged({}),
        lambda: flagged(WHOLE, compute=runs.compute()),
    ],
    "bf16-autocast": [lambda: on_cpu({}), lambda: gpu(compute=runs.compute())],
    "fp16-autocast": [lambda: on_cpu({}), lambda: gpu(compute=runs.compute())],
    "channels-last": [
        lambda: imaging(models=[runs.model()]),
        lambda: imaging(compute=runs.compute()),
        gpu,
    ],
    "compile-model": [computing, lambda: gpu(compute=runs.compute(), models=[runs.model()])],
    "cuda-graphs": [
        lambda: launching(batch=None),
        lambda: launching(None),
        lambda: launching(host=None),
    ],
    "fused-attention": [gpu, lambda: gpu(compute=runs.compute(kinds=ROWS))],
    "fused-optimizer": [gpu, lambda: gpu(optimizers=[runs.optimizer()])],
    "cudnn-benchmark": [
        imaging,
        lambda: imaging({"cudnn.benchmark": "False"}, batch=None),
        lambda: imaging({"cudnn.benchmark": "False"}, compute=runs.compute()),
    ],
    "low-precision-norm": [
        lambda: normalising({}),
        lambda: normalising(HALF, None),
        lambda: normalising(HALF, compute=runs.compute()),
    ],
    "no-bias-before-norm": [lambda: biased(None), lambda: biased(53, compute=runs.compute())],
    "padded-dimensions": [
        lambda: odd(None),
        lambda: odd([50257], {}),
        lambda: odd([50257], compute=runs.compute()),
    ],
    "set-to-none": [lambda: filling(None), lambda: filling(True, compute=runs.compute())],
}
