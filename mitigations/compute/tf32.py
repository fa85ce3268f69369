"""Let float32 products use TF32 tensor cores.

Does: calls `torch.set_float32_matmul_precision("high")`.
Helps: float32 matrix products on NVIDIA GPUs since Ampere.
Avoid: numerics that need all 23 bits of mantissa in products; models in half precision already.
Safety: rounding. Products round their inputs to 10 bits of mantissa, sums stay float32.
Place: system (nearest action: restrict x function). The program's meaning stays.
Source: Hugging Face performance guide: up to 3x throughput; NERSC's tutorial on A100: 10.1
    samples/s without TF32, 13.3 with.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

PRECISION = "float32_matmul_precision"
WORTH = 0.1  # of the step in matrix products
AMPERE = (
    "A100", "A10", "A30", "A40", "A6000", "H100", "H200", "H800", "L4", "L40", "B100", "B200",
    "GH200", "GB200", "RTX 30", "RTX 40", "RTX 50", "RTX A",
)  # fmt: skip


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    hindrance = _unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    products = facts.kinds_share(run, "matmul", "attention")
    if products is None:
        return Misfit(reason="the kinds of operators were not measured")
    if products < WORTH:
        return Misfit(reason=f"only {percent(products)} of the step are matrix products")
    return Fit(
        reason=f"{percent(products)} of the step are float32 matrix products at full precision",
        gain=speeding_up(products, 1.3, 3.0, what="matrix products"),
        by_hand='torch.set_float32_matmul_precision("high")  # once, before training',
    )


def _unsuited(run: Run) -> str | None:
    precision = run.environment.flags.get(PRECISION)
    if run.device != "cuda":
        return "TF32 is a type of NVIDIA GPUs"
    if not any(name in gpu for gpu in facts.gpus(run) for name in AMPERE):
        return "the GPU is not known to have TF32 units"
    if precision is None:
        return "the precision of float32 products was not recorded"
    if precision != "highest":
        return f"float32 products run at precision {precision!r} already"
    others = sorted(facts.dtypes(run) - {"float32"})
    return f"the model is in {', '.join(others)}" if others else None


MITIGATION = remedy("tf32", __doc__, treats=(("compute", "arithmetic"),), assess=assess)
