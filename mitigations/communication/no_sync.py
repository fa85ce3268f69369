"""Exchange accumulated gradients once, before the update.

Does: runs all backward passes of an update but the last one under `model.no_sync()`; applied by
    speedprof, once all ranks agree on how many there are.
Helps: scripts that accumulate gradients in DistributedDataParallel, which otherwise exchanges
    after each backward pass. `fewer-exchanges` is for scripts that do not accumulate, or that
    could accumulate more: it changes the training, this does not.
Avoid: little device memory with sharded models: unreduced gradients are kept whole there.
Safety: rounding. The same gradients are summed, over batches before ranks.
Place: system (nearest action: remove x optimization). Only exchanges nobody reads go.
Source: PyTorch performance tuning guide; DDP paper (VLDB 2020), where skipping synchronisation is
    one of three means; the share that goes is arithmetic: (n - 1) / n.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules import needless_exchange
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.wrapping import NOT_DDP, accumulated, ddp_models
from speedprof.mitigations.communication_gains import LEFT_OUT_AT_LEAST
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

BY_HAND = """\
# around each forward and backward of the {every} that make one update
last = number % {every} == 0
with contextlib.nullcontext() if last else model.no_sync():
    (loss_of(model, batch) / {every}).backward()"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not ddp_models(run):
        return Misfit(reason=NOT_DDP)
    passes, needless = accumulated(run), needless_exchange.needless_fraction(run)
    if passes is None:
        return Misfit(reason="backward passes per update of one optimizer were not counted")
    if passes < needless_exchange.ACCUMULATING:
        return Misfit(reason=f"each update has {number(passes)} backward pass: nothing to skip")
    if needless is None:
        return Misfit(reason="whether accumulated gradients are exchanged was not recorded")
    if needless <= 0:
        return Misfit(
            reason="one exchange for each update: the others run under no_sync() already"
        )
    every = round(passes)
    part = 1.0 if finding.rule == needless_exchange.NAME else needless
    return Fit(
        reason=f"of the exchanges after {every} backward passes {percent(needless)} are not used; "
        f"they take {percent(part * finding.share)} of the step",
        gain=removing(
            part * finding.low,
            part * finding.high,
            what="exchanging what is not used",
            at_least=LEFT_OUT_AT_LEAST,
        ),
        parameters={"every": every},
        by_hand=BY_HAND.format(every=every),
    )


MITIGATION = remedy("no-sync", __doc__, treats=(("communication", "transfer"),), assess=assess)
