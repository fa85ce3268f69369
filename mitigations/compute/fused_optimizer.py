"""Update all weights in one kernel: the optimizer's fused implementation.

Does: builds the optimizer with `fused=True`.
Helps: updates that take a visible part of the step; models of many tensors.
Avoid: optimizers without a fused implementation; weights that are not floating point.
Safety: rounding. The same formula, with another order of operations.
Place: system. The same update in fewer passes over memory.
Source: PyTorch documentation of torch.optim (fused is usually fastest, then foreach, then the
    loop); Hugging Face's performance guide calls Apex's fused AdamW the fastest of those it
    offers; no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import fraction, number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Optimizer, Run

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
DEVICES = ("cpu", "cuda", "rocm", "mps")
WORTH = 0.05  # of the step
# By whether it updates one tensor at a time today. Measured on two cores, 160 tensors of 64,000
# weights: AdamW 2.3x, SGD with momentum 1.3x; foreach, the default on GPUs, is nearer to fused.
FASTER = {True: (1.2, 3.0), False: (1.0, 2.0)}
# Large tensors on a CPU: each step of the formula takes its temporaries anew from the system, page
# by page. Measured there: AdamW over one table of 7.7 million weights, 24.5 to 2.1 ms (11.8x) with
# two threads, 35 to 2.5 ms with one; by bytes alone, 20 passes become 7.
LARGE = 1e6  # weights in a tensor, on average: 4 MB, more than what malloc keeps
FASTER_LARGE = (4.0, 12.0)


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    chosen = max(run.optimizers, key=lambda optimizer: optimizer.elements or 0, default=None)
    if chosen is None or run.compute is None or not run.phases:
        return Misfit(reason="the optimizer, or its time, was not measured")
    if chosen.fused:
        return Misfit(reason=f"{chosen.name} is fused already")
    if chosen.name not in FUSED or run.device not in DEVICES:
        return Misfit(reason=f"{chosen.name} has no fused implementation on {run.device}")
    inside = fraction(run.compute.optimizer_ms, run.phases["compute"].ms)
    if inside is None:
        return Misfit(reason="the optimizer's time was not measured")
    share = inside * run.phases["compute"].share
    if share < WORTH:
        return Misfit(reason=f"the update takes only {percent(share)} of the step")
    one_by_one = chosen.foreach is False or run.device == "cpu"
    slowest, fastest = FASTER_LARGE if _large(run, chosen) else FASTER[one_by_one]
    return Fit(
        reason=(
            f"the update of {chosen.name} takes {percent(share)} of the step, "
            f"{number(run.compute.optimizer_ms or 0)} ms for {chosen.parameters or 'all'} "
            "tensors"
        ),
        gain=speeding_up(share, slowest, fastest, what="the update"),
        parameters={"fused": True},
        by_hand=f"# {chosen.where or 'where the optimizer is made'}\n"
        f"torch.optim.{chosen.name}(..., fused=True)",
    )


def _large(run: Run, optimizer: Optimizer) -> bool:
    temporaries = optimizer.name.startswith("Ada")  # plain SGD has none
    if (
        run.device != "cpu"
        or not temporaries
        or not optimizer.elements
        or not optimizer.parameters
    ):
        return False
    return optimizer.elements / optimizer.parameters >= LARGE


MITIGATION = remedy(
    "fused-optimizer",
    __doc__,
    treats=(("compute", "memory_bandwidth"), ("compute", "arithmetic"), ("host", "launch")),
    assess=assess,
    how="patch",
    conflicts=("eight-bit-optimizer", "adafactor", "offloading"),
)
