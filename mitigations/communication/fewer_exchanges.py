"""Exchange gradients once for several batches.

Does: where the script accumulates gradients, exchanges on the last batch only (`no_sync`); where
    it does not, accumulates over several batches, which makes fewer and larger updates.
Helps: slow links between ranks, large models on small batches.
Avoid: fast links, where computing hides the exchange already.
Safety: changes_training. Fewer updates from larger batches, unless the script accumulates already.
Place: remove x optimization. Some of the exchanges go.
Source: PyTorch DDP paper (VLDB 2020), performance tuning guide; halving exchanges is arithmetic.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WRAPPER = "DistributedDataParallel"
EVERY = 4
BY_HAND = """\
for number, batch in enumerate(loader, 1):
    last = number % {every} == 0
    with contextlib.nullcontext() if last else model.no_sync():
        (loss_of(model, batch) / {every}).backward()
    if last:
        optimizer.step(); optimizer.zero_grad()"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not any(model.wrapped == WRAPPER for model in run.models):
        return Misfit(reason="no model was seen inside DistributedDataParallel")
    batches = run.batches_per_step
    if batches is None:
        return Misfit(reason="batches per update were not measured")
    every = round(batches) if batches >= 2 else EVERY
    how = (
        f"the script accumulates {number(batches)} batches; if it exchanges after each of them, "
        "one would do"
        if batches >= 2
        else f"one exchange a batch; once in {every} it takes {percent(finding.share / every)}"
    )
    saved = 1 - 1 / every
    return Fit(
        reason=how,
        gain=removing(
            finding.low * saved, finding.high * saved, what="exchanges left out", at_least=0.7
        ),
        parameters={"every": every},
        by_hand=BY_HAND.format(every=every),
    )


MITIGATION = remedy(
    "fewer-exchanges", __doc__, treats=(("communication", "transfer"),), assess=assess
)
