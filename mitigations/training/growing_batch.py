"""Let the batch grow instead of the learning rate fall.

Does: where the schedule would divide the learning rate, multiplies the batch by the same factor:
    fewer and larger updates from then on.
Helps: many ranks on slow links, and launch-bound steps: later steps carry more samples each.
Avoid: full device memory (accumulate there); schedules without steps; small data sets.
Safety: changes_training. Fewer updates with less noise; check the accuracy at the end.
Place: reorder x optimization. Batch sizes come one after another.
Source: Smith et al. (2018), "Don't decay the learning rate, increase the batch size", and Google's
    post on it: about 10 times fewer updates at the same accuracy, in image classification.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

BY_HAND = """\
# where the learning rate would be divided by 5 (milestones of the schedule):
batch_size = batch_size * 5  # a new DataLoader, or five times as many accumulated batches"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader, mean = run.training_loader(), step_ms(run)
    if loader is None or not loader.batch_size or mean is None:
        return Misfit(reason="the batch size was not seen")
    if run.world_size < 2:
        return Misfit(reason="there is 1 rank: nothing is exchanged")
    return Fit(
        reason=f"{percent(finding.share)} of the {number(mean)} ms of a step are the same for "
        f"batches larger than {loader.batch_size} samples; how many updates go is the schedule's "
        f"matter, which {run.steps} steps do not show",
        gain=None,
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "growing-batch",
    __doc__,
    treats=(("communication", "transfer"),),
    assess=assess,
    after=("no-sync", "ddp-buckets"),
    conflicts=("larger-batch",),
)
