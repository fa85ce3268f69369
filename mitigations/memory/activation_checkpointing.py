"""Compute activations again in backward instead of keeping them.

Does: wraps repeated blocks in `torch.utils.checkpoint.checkpoint`, which keeps only their inputs.
Helps: trainings whose batch is as large as the device's memory allows and too small to be
    efficient. It makes every step slower, by most of another forward pass, and pays only through
    the larger batch.
Avoid: wherever memory does not bind; blocks with batch norm, whose running statistics would count
    each batch twice.
Safety: exact. The same values, computed twice; the random state is kept for dropout.
Place: system. A trade of time for memory; the program stays.
Source: Chen et al. (2016): memory that grows with the square root of the depth for one more
    forward pass; Hugging Face's performance guide: about 20 % slower.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import fraction, percent, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import TREATS, fullness, not_binding, room_gain
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

TIMES = (2.0, 4.0)  # the batch: a dozen blocks keep a few inputs each instead of all inside
AGAIN = (1.0, 0.75)  # of the forward pass: what lies outside of the blocks is not repeated
BY_HAND = """\
from torch.utils.checkpoint import checkpoint
x = checkpoint(block, x, use_reentrant=False)  # instead of x = block(x), for each repeated block
# models of transformers: model.gradient_checkpointing_enable()
# then twice the batch; accumulate half as many, or adapt the learning rate"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = not_binding(run)
    if hindrance is not None:
        return hindrance
    told = [model.checkpointed for model in run.models if model.checkpointed is not None]
    again = fraction(run.compute.forward_ms if run.compute else None, step_ms(run))
    if any(told):
        return Misfit(reason="activations are computed again already")
    if not told or again is None:
        return Misfit(reason="whether activations are kept, or the forward pass, was not recorded")
    cost = (AGAIN[0] * again, AGAIN[1] * again)
    gain = room_gain(run, finding, times=TIMES, each=cost, what="keeping fewer activations")
    if isinstance(gain, Misfit):
        return gain
    return Fit(
        reason=f"the device's memory is {percent(fullness(run) or 0)} full; steps become up to "
        f"{percent(cost[0])} longer, and a larger batch fits",
        gain=gain,
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "activation-checkpointing",
    __doc__,
    treats=TREATS,
    assess=assess,
    how="patch",
    after=("bf16-autocast", "fused-attention"),
)
