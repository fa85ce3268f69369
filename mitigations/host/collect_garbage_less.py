"""Collect garbage less often.

Does: freezes what is alive before training and collects between epochs only.
Helps: long garbage collector pauses, which grow with the number of live Python objects.
Avoid: loops that make cyclic garbage holding tensors: memory grows until the next collection.
Safety: exact. Only the moment at which memory is given back changes.
Place: system. The trained program stays.
Source: Python documentation of gc.freeze; msprof-analyze warns of pauses from 1 ms; no isolated
    figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import fraction, number, percent, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WORTH = 0.02  # of the step
BY_HAND = """\
import gc
gc.collect(); gc.freeze(); gc.disable()  # before the first epoch
gc.collect()  # after each epoch"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    share = fraction(run.garbage_ms, step_ms(run))
    if share is None:
        return Misfit(reason="garbage collector pauses were not measured")
    if share < WORTH:
        return Misfit(reason=f"the garbage collector takes only {percent(share)} of the step")
    part = min(1.0, share / max(finding.share, 1e-9))
    return Fit(
        reason=f"the garbage collector pauses training {number(run.garbage_ms or 0)} ms a step",
        gain=removing(
            finding.low * part, finding.high * part, what="garbage collection", at_least=0.8
        ),
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "collect-garbage-less", __doc__, treats=(("host", "python"),), assess=assess, how="patch"
)
