"""Draw another order for each epoch.

Does: calls `sampler.set_epoch(epoch)` before each epoch, so that a DistributedSampler shuffles
    anew.
Helps: trainings on several ranks whose every epoch sees the samples in one and the same order. It
    mends the training and makes no step shorter.
Avoid: scripts that want one order on purpose; whoever compares runs with and without it.
Safety: reseeded. The same samples; from the second epoch on in another random order.
Place: system. What DistributedSampler's shuffling is meant to do.
Source: PyTorch documentation of torch.utils.data.distributed.DistributedSampler: without
    set_epoch() "the same ordering will be always used".
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.remarks import repeated_order
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

BY_HAND = """\
for epoch in range(epochs):
    sampler.set_epoch(epoch)  # the DistributedSampler; other samplers need nothing
    ...  # the epoch as before"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:  # noqa: ARG001 - it treats no bottleneck
    remark = repeated_order(run)
    if remark is not None:
        return Fit(reason=remark.sentence, gain=None, by_hand=BY_HAND)
    if all(loader.repeated_orders is None for loader in run.loaders):
        return Misfit(reason="no DistributedSampler was seen to shuffle")
    return Misfit(reason="no order was repeated from epoch to epoch")


MITIGATION = remedy("set-epoch", __doc__, treats=(), assess=assess)
