"""Launch a step's kernels as CUDA graphs.

Does: records the model's forward and backward once and replays them, with
    `torch.cuda.make_graphed_callables`; with the compiler, `mode="reduce-overhead"` does the same.
Helps: hundreds of short kernels, whose launches keep the GPU waiting, at fixed shapes.
Avoid: shapes or control flow that change from step to step; values read in the middle of a step;
    GPUs without memory to spare, for a graph keeps its tensors.
Safety: exact. The same kernels on the same values, launched together.
Place: system. What is launched stays, only how changes.
Source: PyTorch's post on CUDA graphs (2021): 1.70x for Mask R-CNN on 272 A100, 1.12x for BERT on
    4,096, where each GPU has few images or tokens.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.kernel_gains import bounded, graphing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WORTH = 0.05  # of the step spent launching
READS = 1.0  # a step, of values on the device: reading the loss after the step is allowed
BY_HAND = """\
sample = next(iter(loader))[0].to("cuda")  # of the shape that all others have
model = torch.cuda.make_graphed_callables(model, (sample,))  # before DistributedDataParallel
# or, with the compiler, which rounds otherwise: torch.compile(model, mode="reduce-overhead")"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if run.device != "cuda":
        return Misfit(reason=f"CUDA graphs are NVIDIA's, the training runs on {run.device}")
    hindrance = _changing(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    step, operators = step_ms(run), run.compute.operators_per_step if run.compute else None
    if run.host is None or not step or not operators:
        return Misfit(reason="launches and operators were not measured")
    launch_ms = min(run.host.launch_ms, finding.high * step)
    if launch_ms < WORTH * step:
        return Misfit(reason=f"only {percent(launch_ms / step)} of the step wait for launches")
    gain = graphing(step_ms=step, launch_ms=launch_ms, operators=operators)
    return Fit(
        reason=(
            f"launching {number(operators)} operators keeps the GPU waiting "
            f"{number(launch_ms)} of {number(step)} ms, and all batches have one shape"
        ),
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand=BY_HAND,
    )


def _changing(run: Run) -> str | None:
    """Say what a graph could not hold."""
    if run.batch is None:
        return "whether all batches have one shape was not recorded"
    if run.batch.distinct > 1:
        looked = f"{run.batch.distinct} different ones in {run.batch.looked_at} batches"
        return f"the shapes of batches change: {looked}"
    reads = [call for call in run.sync_calls if call.calls_per_step > READS]
    if reads:
        often = number(reads[0].calls_per_step)
        return f"{reads[0].what} at {reads[0].where} reads from the device {often} times a step"
    wrapped = [model.wrapped for model in run.models if model.wrapped]
    if any("FullySharded" in name for name in wrapped):
        return "a sharded model exchanges weights inside the step"
    return None


MITIGATION = remedy(
    "cuda-graphs",
    __doc__,
    treats=(("host", "launch"),),
    assess=assess,
    how="patch",
    after=("deferred-reading", "compile-model"),
)
