"""Accumulate gradients over several batches before each exchange.

Does: computes gradients of several batches under `no_sync`, then exchanges and updates once: fewer
    and larger updates. (`no-sync` is for scripts that accumulate already: it changes nothing.)
Helps: slow links between ranks, large models on small batches.
Avoid: fast links, where computing hides the exchange already; batches as large as training bears.
Safety: changes_training. Fewer updates from larger batches; the learning rate has to follow.
Place: remove x optimization. Some of the exchanges go.
Source: PyTorch DDP paper (VLDB 2020), performance tuning guide; halving exchanges is arithmetic.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.needless_exchange import ACCUMULATING, needless_fraction
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.wrapping import NOT_DDP, accumulated, ddp_models
from speedprof.mitigations.communication_gains import rarer
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

EVERY = 4  # batches, where the script takes one
MORE = 2  # times as many, where it accumulates already
BY_HAND = """\
for number, batch in enumerate(loader, 1):
    last = number % {every} == 0
    with contextlib.nullcontext() if last else model.no_sync():
        (loss_of(model, batch) / {every}).backward()
    if last:
        optimizer.step(); optimizer.zero_grad()
# and scale the learning rate, with warm-up"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not ddp_models(run):
        return Misfit(reason=NOT_DDP)
    batches = accumulated(run)
    if batches is None:
        return Misfit(reason="batches per update of one optimizer were not counted")
    hindrance = _accumulating(run) if batches >= ACCUMULATING else None
    if hindrance is not None:
        return Misfit(reason=hindrance)
    times = MORE if batches >= ACCUMULATING else EVERY
    every = times * max(round(batches), 1)
    return Fit(
        reason=f"one exchange for {number(batches)} batches takes {percent(finding.share)} of the "
        f"step; one for {every} takes {percent(finding.share / times)} of the same work",
        gain=rarer(finding.low, finding.high, times),
        parameters={"every": every},
        by_hand=BY_HAND.format(every=every),
    )


def _accumulating(run: Run) -> str | None:
    """Return what comes first where the script accumulates, None where it skips exchanges."""
    needless = needless_fraction(run)
    if needless is None:
        return "the script accumulates; whether it exchanges each time was not recorded"
    if needless > 0:
        return "the script accumulates and exchanges too often: no-sync ends that for nothing"
    return None


MITIGATION = remedy(
    "fewer-exchanges",
    __doc__,
    treats=(("communication", "transfer"),),
    assess=assess,
    how="patch",
    after=("no-sync", "ddp-buckets"),
)
