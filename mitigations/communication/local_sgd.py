"""Let nodes train on their own for some steps.

Does: averages parameters between nodes every few steps instead of exchanging gradients in each one
    (post-local SGD: after a first part of the training that exchanges always).
Helps: several nodes on a slow network; large batches, whose loss of quality it lessens.
Avoid: one node, where exchanges are cheap; the first part of a training.
Safety: changes_training. Replicas drift apart between averages.
Place: remove x optimization. Rounds of communication go.
Source: Stich, 2018 (1805.09767): up to the square root of T fewer rounds for T steps at the same
    rate, for convex functions; Lin et al., 2018 (1808.07217): post-local SGD closes the gap of
    large batches.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent, plenty
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.wrapping import NOT_DDP, ddp_models, hooked, nodes
from speedprof.mitigations.communication_gains import rarer
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

EVERY = 4  # steps between two averages: where post-local SGD begins to pay
START = 0.5  # of the steps exchange always (post-local SGD switches at the first decay)
BY_HAND = """\
from torch.distributed.algorithms.ddp_comm_hooks import post_localSGD_hook
from torch.distributed.algorithms.model_averaging import averagers
from torch.distributed.optim import PostLocalSGDOptimizer
start = total_steps // 2
within, _ = torch.distributed.new_subgroups()  # the ranks of each node
state = post_localSGD_hook.PostLocalSGDState(torch.distributed.group.WORLD, within, start)
model.register_comm_hook(state, post_localSGD_hook.post_localSGD_hook)  # the one inside DDP
averager = averagers.PeriodicModelAverager(period={every}, warmup_steps=start)
optimizer = PostLocalSGDOptimizer(optim=optimizer, averager=averager)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not ddp_models(run):
        return Misfit(reason=NOT_DDP)
    if hooked(run):
        return Misfit(reason="a communication hook is registered already, and DDP takes one")
    count = nodes(run)
    if count is None:
        return Misfit(reason="on which nodes the ranks run was not recorded")
    if count == 1:
        return Misfit(reason="all ranks run on 1 node, where exchanging is cheap")
    later = 1.0 - START
    return Fit(
        reason=f"{plenty(len(run.ranks), 'rank')} on {count} nodes exchange in each step, "
        f"{percent(finding.share)} of it",
        gain=rarer(
            later * finding.low,
            later * finding.high,
            EVERY,
            what="exchanges in the second half of the training",
        ),
        parameters={"every": EVERY},
        by_hand=BY_HAND.format(every=EVERY),
    )


MITIGATION = remedy(
    "local-sgd",
    __doc__,
    treats=(("communication", "transfer"),),
    assess=assess,
    how="patch",
    conflicts=("bf16-gradients", "powersgd", "sparse-gradients"),
    after=("no-sync", "ddp-buckets"),
)
