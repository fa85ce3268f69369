"""Compute in bf16 where it is safe: automatic mixed precision.

Does: runs forward and loss under `torch.autocast(dtype=torch.bfloat16)`; weights and updates stay
    float32.
Helps: matrix products, convolutions and attention, on devices with bf16 units; half the bytes
    elsewhere.
Avoid: devices without bf16 units; steps that wait for data; models in half precision already.
Safety: rounding. The same maths with 8 bits of mantissa in products; compare the loss curves.
Place: system (nearest action: restrict x function). The program's meaning stays.
Source: PyTorch AMP post (2020): 1.5x to 5.5x on V100 with fp16; NERSC's tutorial on A100: 13.3 to
    42.6 samples/s with bf16; PyTorch tuning guide: up to 3x.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import amdahl
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

PRODUCTS = ("matmul", "convolution", "attention")
STREAMS = ("elementwise", "normalisation", "reduction")
WORTH = 0.2  # of the step in products: below it casting eats the gain
PRODUCTS_FASTER = (1.3, 3.2)  # tuning guide and NERSC; V100's 5.5x is of one model
STREAMS_FASTER = (
    1.0,
    1.5,
)  # half the bytes, but autocast keeps several of these operators in float32
OLD_GPUS = ("V100", "P100", "K80", "T4", "GTX", "RTX 20", "TITAN", "P40", "P4", "M60", "Quadro")
BY_HAND = """\
with torch.autocast("{device}", dtype=torch.bfloat16):  # around forward and loss, not backward
    loss = loss_function(model(inputs), targets)
loss.backward()"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    device = "cuda" if facts.is_gpu(run) else run.device
    reason = _unfit(run)
    if reason is not None:
        return Misfit(reason=reason)
    products, streams = facts.kinds_share(run, *PRODUCTS), facts.kinds_share(run, *STREAMS)
    if products is None or streams is None:
        return Misfit(reason="the kinds of operators were not measured")
    if products < WORTH:
        return Misfit(
            reason=f"only {percent(products)} of the step are products that bf16 makes faster"
        )
    return Fit(
        reason=(
            f"{percent(products)} of the step are matrix products and convolutions, "
            f"{percent(streams)} move data, all in "
            f"{', '.join(sorted(facts.dtypes(run))) or 'float32'}"
        ),
        gain=_gain(products, streams),
        by_hand=BY_HAND.format(device=device),
    )


def _gain(products: float, streams: float) -> Gain:
    """Speed up products and streams together: one remedy acts on both."""
    low, high = (
        1.0 / (1.0 / amdahl(products, fast) + 1.0 / amdahl(streams, lean) - 1.0)
        for fast, lean in zip(PRODUCTS_FASTER, STREAMS_FASTER, strict=True)
    )
    model = (
        f"Amdahl: {percent(products)} of the step in products, {PRODUCTS_FASTER[0]} to "
        f"{PRODUCTS_FASTER[1]} "
        f"times as fast, {percent(streams)} of moving data up to {STREAMS_FASTER[1]} times"
    )
    return Gain(low=low, high=high, model=model)


def _unfit(run: Run) -> str | None:
    if facts.types_unknown(run):
        return "the trace does not tell in which types the model computes"
    if facts.dtypes(run) & {"bfloat16", "float16"}:
        return f"the model is in {', '.join(sorted(facts.dtypes(run)))} already"
    if facts.is_gpu(run):
        old = [gpu for gpu in facts.gpus(run) if any(name in gpu for name in OLD_GPUS)]
        return f"{old[0]} has no bf16 units; fp16 with a GradScaler may help" if old else None
    if run.device != "cpu":
        return f"what bf16 does on {run.device} is not known here"
    bf16 = facts.cpu_has_bf16(run)
    if bf16 is None:
        return "whether this CPU has bf16 units was not recorded (`lscpu | grep -i bf16` tells)"
    return None if bf16 else "this CPU has no bf16 units (AMX or AVX512-BF16): it would be slower"


MITIGATION = remedy(
    "bf16-autocast",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
)
