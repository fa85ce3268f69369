"""In which type a run multiplies, and how much faster its device would in another."""

from __future__ import annotations

from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.kernel_gains import (
    HALF_THE_BYTES,
    LONGEST,
    PUBLISHED,
    REACHED,
    chain_length,
    product_speedup,
)
from speedprof.profiler.device_peaks import REACHED as REACHED_BY_ARITHMETIC
from speedprof.profiler.device_peaks import device_peaks
from speedprof.profiler.run import Run

PRECISION = "float32_matmul_precision"
CONVOLUTIONS = "cudnn.allow_tf32"  # torch's default is True
AMPERE = 8.0  # compute capability of the first GPUs with TF32 and bf16 units
WITH_TF32 = (
    "A100", "A10", "A30", "A40", "A6000", "H100", "H200", "H800", "L4", "L40", "B100", "B200",
    "GH200", "GB200", "RTX 30", "RTX 40", "RTX 50", "RTX A",
)  # fmt: skip
SHOWN = 0.001  # of the step: smaller shares are not named
WORTH_CASTING = 1.2  # times as fast: below it casts eat what products gain
SHORT_MS = 2.0  # of one product on a CPU
MAIN = 0.01  # of all operators' time: what takes less is not a product, only named like one
PRODUCTS = ("matmul", "convolution", "attention")
STREAMS = ("elementwise", "normalisation", "reduction")
TENSOR_CORES = ("bfloat16", "float16", "bf16", "fp16", "tf32", "fp8")


def autocast(run: Run) -> str | None:
    """Return the type of autocast, "off", or None where it was not recorded."""
    return run.environment.flags.get("autocast")


def now(run: Run, kind: str) -> str | None:
    """Return how float32 products of this kind are computed: "fp32", "tf32", None: not known."""
    if run.device == "cpu":
        return "fp32"
    counted = run.compute.arithmetic if run.compute else None
    if counted is not None and set(counted.precisions) == {"fp32"}:
        return "fp32"
    flag = run.environment.flags.get(CONVOLUTIONS if kind == "convolution" else PRECISION)
    if flag is None:
        return None
    whole = flag in ("highest", "False") or has_tf32(run) is False
    return "fp32" if whole else "tf32"


def has_tf32(run: Run) -> bool | None:
    """Tell whether the device multiplies in TF32, since NVIDIA's Ampere; None: not known."""
    if run.device != "cuda":
        return False
    told, names = capability(run), facts.gpus(run)
    if told is not None:
        return told >= AMPERE
    if not names:
        return None
    return any(name in gpu for gpu in names for name in WITH_TF32)


def capability(run: Run) -> float | None:
    """Return the compute capability of an NVIDIA GPU, 8.0 for Ampere, None where not recorded."""
    told = run.environment.flags.get("cuda_capability", "")
    return float(told) if told.partition(".")[0].isdigit() else None


def faster(run: Run, kind: str, then: str) -> tuple[float, float]:
    """Return the slowest and fastest speed-up of products of this kind in type `then`.

    By the ratio of the machine's measured roofs, or else of the device's published ones.
    Products that stay far below the roof of today's type wait for memory: they gain by half the
    bytes at most. Where no roofs were measured, convolutions and attention get the published
    range at least: cuDNN's kernels in TF32 stay further below their roof than cuBLAS's, and only
    half precision has the fastest attention.
    """
    today = now(run, kind)
    measured, published = _measured(run, kind), _published(run)
    for roofs, reached in ((measured, 1.0), (published, REACHED)):
        if today is not None and roofs.get(today) and roofs.get(then):
            slowest, fastest = product_speedup(roofs[then] / roofs[today], reached=reached)
            least = PUBLISHED[1] if kind != "matmul" and not measured else 1.0
            return _by_bytes(run, kind, (slowest, max(fastest, least)))
    return _by_bytes(run, kind, PUBLISHED)


def _by_bytes(run: Run, kind: str, faster: tuple[float, float]) -> tuple[float, float]:
    """Limit the range to half the bytes where these products do not come near their roof."""
    counted = run.compute.arithmetic if run.compute else None
    if run.device == "cpu" and _short(run, kind):
        return 1.0, faster[0]
    reached = counted.kinds[kind].of_peak if counted and kind in counted.kinds else None
    if reached is None or reached >= REACHED_BY_ARITHMETIC:
        return faster
    return min(faster[0], HALF_THE_BYTES**0.5), min(faster[1], HALF_THE_BYTES)


def _short(run: Run, kind: str) -> bool:
    """Tell whether these products are so short on a CPU that casts and packing weigh as much.

    Measured with bf16 units, two cores, where the roofs have a ratio of 4.2: products of 10 ms
    and more made their step 3.5x faster; those of a small GPT, 0.4 ms each, 1.17x.
    """
    operators = run.compute.operators if run.compute else []
    whole = sum(one.ms for one in operators)
    told = [one for one in operators if one.kind == kind and one.ms >= MAIN * whole]
    calls = sum(one.calls for one in told)
    return calls > 0 and sum(one.ms for one in told) / calls < SHORT_MS


def not_faster(run: Run, then: str) -> str | None:
    """Say that this machine was measured to multiply no faster in type `then`, else None."""
    roofs, today = _measured(run, "matmul"), now(run, "matmul")
    if today is None or not roofs.get(today) or not roofs.get(then):
        return None
    ratio = roofs[then] / roofs[today]
    if ratio >= WORTH_CASTING:
        return None
    return f"matrix products in {then} were measured {ratio:.2f} times as fast as {today} here"


def _measured(run: Run, kind: str) -> dict[str, float]:
    processor = run.roofs.of_device(run.device) if run.roofs else None
    if processor is None:
        return {}
    convolves = kind == "convolution" and processor.convolution_tflops
    levels = processor.convolution_tflops if convolves else processor.matmul_tflops
    return {name: level.best for name, level in levels.items()}


def _published(run: Run) -> dict[str, float]:
    peaks = device_peaks(next(iter(facts.gpus(run)), None))
    return peaks.tflops if peaks else {}


def on_tensor_cores(run: Run) -> bool | None:
    """Tell whether matrix products run in a type of the tensor cores; None where not known."""
    if facts.dtypes(run) & set(TENSOR_CORES) or autocast(run) in TENSOR_CORES:
        return True
    counted = run.compute.arithmetic if run.compute else None
    if counted is not None and counted.precisions:
        return max(counted.precisions, key=lambda one: counted.precisions[one]) in TENSOR_CORES
    today = now(run, "matmul")
    if today is None or autocast(run) is None:
        return None
    return today == "tf32"


def kind_shares(run: Run, *kinds: str) -> dict[str, float] | None:
    """Return each kind's share of the step (0..1), None where kinds were not measured."""
    found = {kind: facts.kinds_share(run, kind) for kind in kinds}
    known = {kind: share for kind, share in found.items() if share is not None}
    return known or None


def chain(run: Run) -> float:
    """Return how many streaming operators lie between two products, by the costliest ones."""
    operators = run.compute.operators if run.compute else []
    streams = sum(one.calls for one in operators if one.kind in STREAMS)
    return chain_length(streams, sum(one.calls for one in operators if one.kind in PRODUCTS))


def chain_alone(run: Run) -> float | None:
    """Return the operators in each direction of a step without any products, None with some."""
    operators = run.compute.operators if run.compute else []
    whole = sum(one.ms for one in operators)
    large = [one for one in operators if one.ms >= MAIN * whole]
    if not large or any(one.kind in PRODUCTS for one in large):
        return None
    calls = sum(one.calls for one in large if one.kind in STREAMS) / 2.0
    return calls if calls > LONGEST else None


def shown(shares: dict[str, float]) -> str:
    """Say the shares, largest first: "40 % matmul, 12 % elementwise"."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{percent(share)} {kind}" for kind, share in ranked if share >= SHOWN)
