"""Compile the model with torch.compile: fewer launches, and operators fused by layout and bytes.

Does: wraps the model in `torch.compile`, which fuses operators, chooses their memory layout and
    launches fewer of them. It is two remedies at once: one for launching, one for bandwidth.
Helps: many small operators; time in elementwise operators, normalisation and reductions.
Avoid: shapes that change from step to step; short trainings, which do not earn the compilation
    back; taking it on trust: measure, it is slower now and then.
Safety: rounding. Fused operators round and add in another order.
Place: system. The same operators in fewer kernels.
Source: torch.compile (ASPLOS 2024): 1.41x over 180 training models on A100; Data Movement Is All
    You Need (MLSys 2021), fusion and layout by hand: 1.30x for a BERT layer, 1.19x for BERT, on
    V100; MMAction2's documentation: 0.82x for TSN, the counter-example.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import products
from speedprof.mitigations.gains import amdahl, ceiling
from speedprof.mitigations.kernel_gains import WORST, bounded, fusing, fusing_all
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

FUSIBLE = ("elementwise", "normalisation", "reduction", "other")
WORTH = 0.1  # of the step
VOLTA = 7.0  # compute capability that Triton needs at least
LAUNCHES = 3.0  # times fewer, where chains of three become one kernel
BY_HAND = """\
model = torch.compile(model{dynamic})  # on its device, before DistributedDataParallel
# compare the step time after the first dozen steps: compiling is not always faster"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = _unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    launching = finding.cause == "launch"
    share = finding.share if launching else facts.kinds_share(run, *FUSIBLE)
    if share is None:
        return Misfit(reason="the kinds of operators were not measured")
    if share < WORTH:
        return Misfit(reason=f"only {percent(share)} of the step are operators that fuse")
    operators = run.compute.operators_per_step if run.compute else None
    many = f"{number(operators)} operators a step; " if operators else ""
    what = "launching" if launching else "operators that fuse"
    gain = _fewer_launches(finding, share) if launching else _fused(run, finding, share)
    varied = run.batch is not None and run.batch.distinct > 1
    return Fit(
        reason=f"{many}{percent(share)} of the step are {what}",
        gain=gain,
        by_hand=BY_HAND.format(dynamic=", dynamic=True" if varied else ""),
    )


def _fused(run: Run, finding: Finding, share: float) -> Gain:
    """Predict by the bytes that fusing saves; without any products, forward is a single chain."""
    alone, host = products.chain_alone(run), run.share("host") or 0.0
    if run.device == "cpu" and alone is not None:
        return fusing_all(share, host, alone)
    gain = fusing(share, products.chain(run))
    return bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high))


def _fewer_launches(finding: Finding, share: float) -> Gain:
    model = (
        f"Amdahl: {percent(share)} of the step (launching) up to {LAUNCHES:g} times fewer; the "
        f"low end is the published counter-example of {WORST}x, scaled to that share"
    )
    return bounded(
        amdahl(share, WORST), amdahl(share, LAUNCHES), model, most=ceiling(finding.high)
    )


def _unsuited(run: Run) -> str | None:
    if any(model.compiled for model in run.models) or facts.compiled_in_trace(run):
        return "the model is compiled already"
    if not run.models and run.kind != "trace":
        return "the model was not found"
    if not facts.is_gpu(run) and run.device != "cpu":
        return f"what compiling does on {run.device} is not known here"
    told = products.capability(run)
    if told is not None and told < VOLTA:
        return f"the compiler's kernels need compute capability {VOLTA}, this GPU has {told}"
    return None


MITIGATION = remedy(
    "compile-model",
    __doc__,
    treats=(("compute", "memory_bandwidth"), ("compute", "arithmetic"), ("host", "launch")),
    assess=assess,
    how="patch",
)
