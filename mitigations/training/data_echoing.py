"""Train on each batch more than once while the next one is made.

Does: repeats each batch (better: samples, shuffled and augmented again) a few times.
Helps: storage or preparation that cannot be made faster, while the device waits.
Avoid: loaders that other remedies speed up; data sets that are seen often anyway.
Safety: changes_training. Repeated samples teach less than fresh ones.
Place: reorder x data. The same samples at other times.
Source: Choi et al., 2019 (1907.05550): ResNet-50 on ImageNet, read over a network, in 3.25 times
    less time to the same accuracy.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.late_batches import LATE, unsuited
from speedprof.profiler.run import Run

MOST = 5  # times, assumed: each repeat teaches less than the one before
BY_HAND = """\
def echoed(loader, times={times}):
    for batch in loader:
        for _ in range(times):
            yield batch  # random transforms after this line draw anew for each repeat

for batch in echoed(loader):"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = unsuited(run, finding)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    mean, waiting = step_ms(run), run.share("data_loading")
    if mean is None or waiting is None:
        return Misfit(reason="the phases of the step were not measured")
    rest = mean * (1.0 - waiting)
    times = min(max(round(mean / max(rest, 1e-9)), 2), MOST)
    update = max(mean / times, rest) if _in_workers(run) else rest + mean * waiting / times
    return Fit(
        reason=f"each step waits {number(mean * waiting)} of {number(mean)} ms for data; batches "
        f"used {times} times give an update every {number(update)} ms, but {run.steps} steps "
        "cannot tell how many more updates the repeats make necessary",
        gain=None,
        parameters={"times": times},
        by_hand=BY_HAND.format(times=times),
    )


def _in_workers(run: Run) -> bool:
    loader = run.training_loader()
    return loader is not None and loader.num_workers > 0


MITIGATION = remedy(
    "data-echoing",
    __doc__,
    treats=LATE,
    assess=assess,
    how="patch",
    after=("loader-workers", "cache-samples", "nearer-storage", "faster-decoding"),
)
