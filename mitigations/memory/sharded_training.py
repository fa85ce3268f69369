"""Share weights, gradients and the optimizer's state out among the ranks: ZeRO, FSDP.

Does: keeps on each rank only its part of the optimizer's state (ZeRO-1), or of gradients and
    weights, too (FSDP), and exchanges what a step needs.
Helps: large models trained by DistributedDataParallel, each rank of which holds everything.
Avoid: one rank; models that are small beside their activations; slow links, which carry up to half
    as much again.
Safety: rounding. The same update; gradients are summed in other pieces.
Place: system. The same training, laid out otherwise.
Source: PyTorch FSDP (VLDB 2023): about the speed of DDP where both fit, and near-linear TFLOP/s
    with more GPUs; its documentation: more communication than DDP.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import TREATS, capacity, largest, not_binding, room_gain
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WRAPPER = "DistributedDataParallel"
# Weights are gathered forward and backward and gradients scattered: three passes over the link
# where an all-reduce has two.
MORE_EXCHANGE = 0.5
BY_HAND = """\
optimizer = torch.distributed.optim.ZeroRedundancyOptimizer(
    model.parameters(), optimizer_class=torch.optim.{name}, lr=...
)  # shares out the state alone; weights and gradients, too, instead of DistributedDataParallel:
from torch.distributed.fsdp import fully_shard
for block in model.blocks:
    fully_shard(block)
fully_shard(model)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if run.world_size < 2:
        return Misfit(reason="there is one rank, nobody to share with")
    hindrance = not_binding(run)
    if hindrance is not None:
        return hindrance
    held, optimizer, talking = capacity(run), largest(run), run.share("communication")
    if held is None or optimizer is None or talking is None:
        return Misfit(reason="the model, its optimizer or the phases were not seen")
    if not any(model.wrapped == WRAPPER for model in run.models):
        return Misfit(reason="no model was seen inside DistributedDataParallel")
    away = 1.0 - 1.0 / run.world_size
    states, everything = away * held.states, away * (held.weights + held.gradients + held.states)
    gain = room_gain(
        run,
        finding,
        times=(held.times(states), held.times(everything)),
        once=(MORE_EXCHANGE * talking, 0.0),
        what=f"sharing with {run.world_size - 1} other ranks",
    )
    if isinstance(gain, Misfit):
        return gain
    return Fit(
        reason=f"each of {run.world_size} ranks holds all, with memory "
        f"{percent(held.peak / held.total)} full; sharing frees {size(states)} to "
        f"{size(everything)}",
        gain=gain,
        by_hand=BY_HAND.format(name=optimizer.name),
    )


MITIGATION = remedy(
    "sharded-training",
    __doc__,
    treats=TREATS,
    assess=assess,
)
