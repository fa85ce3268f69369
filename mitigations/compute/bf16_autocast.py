"""Compute in bf16 where it is safe: automatic mixed precision.

Does: runs forward and loss under `torch.autocast(dtype=torch.bfloat16)`; weights and updates stay
    float32.
Helps: matrix products, convolutions and attention, on devices with bf16 units; half the bytes
    elsewhere.
Avoid: devices without bf16 units, where fp16 with a `GradScaler` may help; steps that wait for
    data; models in half precision already.
Safety: rounding. The same maths with 8 bits of mantissa in products; compare the loss curves.
Place: system (nearest action: restrict x function). The program's meaning stays.
Source: PyTorch AMP post (2020): 1.5x to 5.5x over float32 on V100 with fp16; NERSC's SC23
    tutorial on A100: 13.3 samples/s with TF32, 42.6 with bf16; PyTorch tuning guide: up to 3x.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import products
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.kernel_gains import bounded, precision
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

WORTH = 0.2  # of the step in products: below it casting eats the gain
STREAMS_FASTER = (
    1.0,
    1.5,
)  # half the bytes, but autocast keeps several of these operators in float32
FIRST = 8  # compute capability of Ampere, the first with bf16 units
OLD_GPUS = ("V100", "P100", "K80", "T4", "GTX", "RTX 20", "TITAN", "P40", "P4", "M60", "Quadro")
BY_HAND = """\
with torch.autocast("{device}", dtype=torch.bfloat16):  # around forward and loss, not backward
    loss = loss_function(model(inputs), targets)
loss.backward()"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    reason = _unfit(run)
    if reason is not None:
        return Misfit(reason=reason)
    shares = products.kind_shares(run, *products.PRODUCTS, *products.STREAMS)
    if shares is None:
        return Misfit(reason="the kinds of operators were not measured")
    multiplied = sum(shares[kind] for kind in products.PRODUCTS)
    if multiplied < WORTH:
        return Misfit(
            reason=f"only {percent(multiplied)} of the step are products that bf16 makes faster"
        )
    types = ", ".join(sorted(facts.dtypes(run))) or "float32"
    unseen = "" if products.autocast(run) else "; whether autocast is on was not recorded"
    return Fit(
        reason=f"of the step, {products.shown(shares)}, all in {types}{unseen}",
        gain=_gain(run, shares, finding),
        by_hand=BY_HAND.format(device="cuda" if facts.is_gpu(run) else run.device),
    )


def _gain(run: Run, shares: dict[str, float], finding: Finding) -> Gain:
    """Speed up products and streams together: one remedy acts on both."""
    faster = dict.fromkeys(products.STREAMS, STREAMS_FASTER)
    faster |= {kind: products.faster(run, kind, "bf16") for kind in products.PRODUCTS}
    gain = precision(shares, faster)
    return bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high))


def _unfit(run: Run) -> str | None:
    if facts.types_unknown(run):
        return "the trace does not tell in which types the model computes"
    if facts.dtypes(run) & {"bfloat16", "float16"}:
        return f"the model is in {', '.join(sorted(facts.dtypes(run)))} already"
    if products.autocast(run) not in (None, "off"):
        return f"autocast computes in {products.autocast(run)} already"
    hindrance = _too_old(run) if facts.is_gpu(run) else _unfit_without_gpu(run)
    return hindrance or products.not_faster(run, "bf16")


def _unfit_without_gpu(run: Run) -> str | None:
    if run.device != "cpu":
        return f"what bf16 does on {run.device} is not known here"
    bf16 = facts.cpu_has_bf16(run)
    if bf16 is None:
        return "whether this CPU has bf16 units was not recorded (`lscpu | grep -i bf16` tells)"
    return None if bf16 else "this CPU has no bf16 units (AMX or AVX512-BF16): it would be slower"


def _too_old(run: Run) -> str | None:
    told = run.environment.flags.get("cuda_capability", "")
    old = [gpu for gpu in facts.gpus(run) if any(name in gpu for name in OLD_GPUS)]
    if run.device == "cuda" and told.partition(".")[0].isdigit():
        old = (old or [f"a GPU of compute capability {told}"]) if float(told) < FIRST else []
    return f"{old[0]} has no bf16 units; fp16 with a GradScaler may help" if old else None


MITIGATION = remedy(
    "bf16-autocast",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
    how="patch",
)
