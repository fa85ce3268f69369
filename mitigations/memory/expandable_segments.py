"""Let the allocator's segments grow.

Does: sets PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, takes `torch.cuda.empty_cache()` out
    of the loop, and lets a batch of the longest samples come first, which allocates for all.
Helps: sizes that change from step to step; a device whose memory is nearly full; frequent
    cudaMalloc.
Avoid: sharing device tensors between processes, which needs the other allocator.
Safety: exact. The same values at other addresses.
Place: system. It changes where tensors lie, not what is trained.
Source: PyTorch documentation of CUDA memory management, performance tuning guide; no isolated
    figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

FEWEST = 3  # steps of a trace
VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not facts.is_gpu(run):
        return Misfit(
            reason=f"this allocator belongs to CUDA devices, the training runs on {run.device}"
        )
    if run.kind == "trace" and run.steps < FEWEST:
        return Misfit(reason="too few steps to tell the first allocations from those of each step")
    given = next(
        (run.environment.flags[name] for name in VARIABLES if name in run.environment.flags), ""
    )
    if "expandable_segments:True" in given:
        return Misfit(reason="segments may grow already; look for empty_cache() in the loop")
    kept = f"{given}," if given else ""
    return Fit(
        reason=f"allocating takes {percent(finding.share)} of the step",
        gain=removing(finding.low, finding.high, what="allocating", at_least=0.3),
        by_hand=f"export PYTORCH_CUDA_ALLOC_CONF={kept}expandable_segments:True\n"
        "# and no torch.cuda.empty_cache() in the loop; the batch of the longest samples first",
    )


MITIGATION = remedy(
    "expandable-segments",
    __doc__,
    treats=(("host", "allocator"),),
    assess=assess,
    how="patch",
)
