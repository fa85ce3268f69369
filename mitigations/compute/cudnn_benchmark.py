"""Let cuDNN try its convolution algorithms once and keep the fastest.

Does: sets `torch.backends.cudnn.benchmark = True`.
Helps: convolutions whose shapes stay the same: each shape is tried out once, in the first steps.
Avoid: shapes that change, for each new one is tried out again; runs that must repeat to the bit.
Safety: rounding. Another algorithm sums in another order, and not always in the same one.
Place: system. The same convolutions.
Source: PyTorch performance tuning guide, which advises it for fixed shapes alone; no isolated
    published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import ceiling, speeding_up
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

FLAG = "cudnn.benchmark"
WORTH = 0.2  # of the step in convolutions
# cuDNN's heuristic often chooses the fastest already. Assumed, for want of a published figure: it
# costs a quarter at worst.
FASTER = (1.0, 1.25)


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = _unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    share = facts.kinds_share(run, "convolution")
    if share is None:
        return Misfit(reason="the kinds of operators were not measured")
    if share < WORTH:
        return Misfit(reason=f"only {percent(share)} of the step are convolutions")
    gain = speeding_up(share, *FASTER, what="convolutions; assumed, nothing is published")
    looked = run.batch.looked_at if run.batch else 0
    return Fit(
        reason=f"{percent(share)} of the step are convolutions, all {looked} batches of one shape",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand="torch.backends.cudnn.benchmark = True  # once, before training",
    )


def _unsuited(run: Run) -> str | None:
    flag = run.environment.flags.get(FLAG)
    if not facts.is_gpu(run):
        return f"cuDNN belongs to GPUs, the training runs on {run.device}"
    if flag is None or run.batch is None:
        return "whether cuDNN tries algorithms, or batches have one shape, was not recorded"
    if flag == "True":
        return "cuDNN tries its algorithms already"
    if "True" in (
        run.environment.flags.get("cudnn.deterministic"),
        run.environment.flags.get("deterministic_algorithms"),
    ):
        return "the script asks for deterministic algorithms, of which there is little choice"
    if run.batch.distinct > 1:
        return f"{run.batch.distinct} different shapes of batches: each would be tried out anew"
    return None


MITIGATION = remedy(
    "cudnn-benchmark",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
    how="patch",
    after=("bf16-autocast", "tf32", "channels-last"),
)
