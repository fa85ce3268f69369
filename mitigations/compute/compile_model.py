"""Compile the model with torch.compile.

Does: wraps the model in `torch.compile`, which fuses operators and launches fewer of them.
Helps: many small operators; time in elementwise operators, normalisation and reductions.
Avoid: shapes that change from step to step; short trainings, which do not earn the compilation
    back; taking it on trust: measure, it is slower now and then.
Safety: rounding. Fused operators round and add in another order.
Place: system. The same operators in fewer kernels.
Source: torch.compile (ASPLOS 2024): 1.41x over 180 training models on A100; MMAction2's
    documentation: 0.82x for TSN, the counter-example.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import amdahl
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

FUSIBLE = ("elementwise", "normalisation", "reduction", "other")
WORTH = 0.1  # of the step
FASTEST = 3.0  # a fused chain reads and writes once what three operators did
WORST = 0.82  # MMAction2's TSN
BY_HAND = """\
model = torch.compile(model)  # after moving it to the device, before DistributedDataParallel
# where launching dominates and shapes are fixed, on a GPU: mode="reduce-overhead"
# compare the step time after the first dozen steps: compiling is not always faster"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if any(model.compiled for model in run.models) or facts.compiled_in_trace(run):
        return Misfit(reason="the model is compiled already")
    if not run.models and run.kind != "trace":
        return Misfit(reason="the model was not found")
    if not facts.is_gpu(run) and run.device != "cpu":
        return Misfit(reason=f"what compiling does on {run.device} is not known here")
    share = finding.share if finding.cause == "launch" else facts.kinds_share(run, *FUSIBLE)
    if share is None:
        return Misfit(reason="the kinds of operators were not measured")
    if share < WORTH:
        return Misfit(reason=f"only {percent(share)} of the step are operators that fuse")
    operators = run.compute.operators_per_step if run.compute else None
    many = f"{number(operators)} operators a step; " if operators else ""
    what = "launching" if finding.cause == "launch" else "operators that fuse"
    return Fit(
        reason=f"{many}{percent(share)} of the step are {what}",
        gain=Gain(
            low=max(WORST, 1.0 - share / 2),
            high=amdahl(share, FASTEST),
            model=f"Amdahl: {percent(share)} of the step ({what}) up to {FASTEST:g}x as fast; "
            "the low end is the published counter-example, scaled to that share",
        ),
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "compile-model",
    __doc__,
    treats=(("compute", "memory_bandwidth"), ("compute", "arithmetic"), ("host", "launch")),
    assess=assess,
)
