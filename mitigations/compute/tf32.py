"""Let float32 products use TF32 tensor cores.

Does: calls `torch.set_float32_matmul_precision("high")`.
Helps: float32 matrix products on NVIDIA GPUs since Ampere.
Avoid: numerics that need all 23 bits of mantissa in products; models in half precision already.
Safety: rounding. Products round their inputs to 10 bits of mantissa, sums stay float32.
Place: system (nearest action: restrict x function). The program's meaning stays.
Source: Hugging Face performance guide: up to 3x throughput; NERSC's SC23 tutorial on A100:
    10.1 samples/s without TF32, 13.3 with.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import products
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.kernel_gains import bounded, precision
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WORTH = 0.1  # of the step in products
KINDS = ("matmul", "attention", "convolution")
MATRICES = 'torch.set_float32_matmul_precision("high")  # once, before training'
IMAGES = "torch.backends.cudnn.allow_tf32 = True  # torch's default, which the script turned off"


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = _unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    shares = products.kind_shares(run, *KINDS)
    if shares is None:
        return Misfit(reason="the kinds of operators were not measured")
    whole = {kind: share for kind, share in shares.items() if products.now(run, kind) == "fp32"}
    if sum(whole.values()) < WORTH:
        few = percent(sum(whole.values()))
        return Misfit(reason=f"only {few} of the step are products at full precision")
    gain = precision(whole, {kind: products.faster(run, kind, "tf32") for kind in whole})
    changed = [MATRICES] if products.now(run, "matmul") == "fp32" else []
    return Fit(
        reason=f"float32 products at full precision: {products.shown(whole)}, of the step",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand="\n".join(changed + ([IMAGES] if whole.get("convolution") else [])),
    )


def _unsuited(run: Run) -> str | None:
    flag = run.environment.flags.get(products.PRECISION)
    if run.device != "cuda":
        return "TF32 is a type of NVIDIA GPUs"
    if not products.has_tf32(run):
        return "the GPU is not known to have TF32 units"
    if flag is None:
        return "the precision of float32 products was not recorded"
    if products.now(run, "matmul") == "tf32" and products.now(run, "convolution") != "fp32":
        return f"float32 products run at precision {flag!r} already"
    if products.autocast(run) not in (None, "off"):
        return f"products run in {products.autocast(run)} already, by autocast"
    others = sorted(facts.dtypes(run) - {"float32"})
    return f"the model is in {', '.join(others)}" if others else None


MITIGATION = remedy(
    "tf32", __doc__, treats=(("compute", "arithmetic"),), assess=assess, how="patch"
)
