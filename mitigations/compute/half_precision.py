"""What half precision needs and gains, whichever of its two types the device has units for."""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
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
VOLTA = 7.0  # compute capability of the first GPUs with tensor cores, of fp16 alone
FP16_ONLY = ("V100", "T4", "RTX 20", "TITAN RTX", "TITAN V", "Quadro RTX")
WITHOUT_UNITS = ("P100", "K80", "GTX", "TITAN X", "P40", "P4", "M60", "Quadro P", "Quadro M")
WITHOUT = "has no units for half precision"


def fit(run: Run, finding: Finding, half: str, by_hand: str) -> Fit | Misfit:
    """Return what computing in `half` ("bf16", "fp16") gains, or why it would not."""
    reason = _unfit(run)
    if reason is not None:
        return Misfit(reason=reason)
    shares = products.kind_shares(run, *products.PRODUCTS, *products.STREAMS)
    if shares is None:
        return Misfit(reason="the kinds of operators were not measured")
    multiplied = sum(shares[kind] for kind in products.PRODUCTS)
    if multiplied < WORTH:
        return Misfit(
            reason=f"only {percent(multiplied)} of the step are products, the rest gains little"
        )
    types = ", ".join(sorted(facts.dtypes(run))) or "float32"
    seen = products.autocast(run) or run.kind == "trace"
    unseen = "" if seen else "; whether autocast is on was not recorded"
    return Fit(
        reason=f"of the step, {products.shown(shares)}, all in {types}{unseen}; "
        f"{half} is what the device has units for",
        gain=_gain(run, shares, finding, half),
        by_hand=by_hand,
    )


def type_of(run: Run) -> str:
    """Return the half precision that the device has units for: bf16 since Ampere, else fp16."""
    told = products.capability(run) if run.device == "cuda" else None
    if told is not None:
        return "bf16" if told >= products.AMPERE else "fp16"
    names = facts.gpus(run) if facts.is_gpu(run) else []
    return "fp16" if any(name in gpu for gpu in names for name in FP16_ONLY) else "bf16"


def _gain(run: Run, shares: dict[str, float], finding: Finding, half: str) -> Gain:
    """Speed up products and streams together: one remedy acts on both."""
    faster = dict.fromkeys(products.STREAMS, STREAMS_FASTER)
    faster |= {kind: products.faster(run, kind, half) for kind in products.PRODUCTS}
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
    return hindrance or products.not_faster(run, type_of(run))


def _unfit_without_gpu(run: Run) -> str | None:
    if run.device != "cpu":
        return f"what bf16 does on {run.device} is not known here"
    bf16 = facts.cpu_has_bf16(run)
    if bf16 is None:
        return "whether this CPU has bf16 units was not recorded (`lscpu | grep -i bf16` tells)"
    return None if bf16 else "this CPU has no bf16 units (AMX or AVX512-BF16): it would be slower"


def _too_old(run: Run) -> str | None:
    names = facts.gpus(run)
    told = products.capability(run) if run.device == "cuda" else None
    if told is not None:
        name = next(iter(names), "this GPU")
        return f"{name} (compute capability {told}) {WITHOUT}" if told < VOLTA else None
    old = [gpu for gpu in names if any(name in gpu for name in WITHOUT_UNITS)]
    return f"{old[0]} {WITHOUT}" if old else None
