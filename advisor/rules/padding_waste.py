"""A part of what is computed is padding.

Does: says how much of the step goes into ids that only fill up rows.
Why: rows of one length are computed whole; nothing that is learnt comes of their padding.
Evidence: the trailing ids of the first batches that repeat the commonest last one, times the
    computing outside the optimizer. Work grows with the number of ids at least, attention with
    its square, which is left out; kernels that skip padding are not told apart, hence the low end
    is nothing.
Threshold: a fifth of the ids, as half of the padding is about what other batches can save and a
    tenth of computing the least that repays them; and computing half of the step, as for
    arithmetic.
"""

from __future__ import annotations

from dataclasses import replace

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.arithmetic_bound import COMPUTE_SHARE
from speedprof.advisor.shares import finding, percent, worth_naming
from speedprof.profiler.run import Run

NAME = "padding-waste"
PADDING = 0.20  # of the ids


def check(run: Run) -> Finding | None:
    padding = run.batch.padding if run.batch else None
    bound = run.compute.bound if run.compute else None
    if padding is None or padding < PADDING or bound is None:
        return None
    cost = worth_naming(run, "compute", padding * _beside_optimizer(run))
    if cost is None or (run.share("compute") or 0.0) < COMPUTE_SHARE:
        return None
    evidence = (
        f"{percent(padding)} of the ids in a batch fill up its rows; computing with them takes up "
        f"to {cost.text} of each step"
    )
    return finding(replace(cost, low=0.0), NAME, bound, evidence=evidence)


def _beside_optimizer(run: Run) -> float:
    """Return the part of computing that depends on the batch: all but the update."""
    whole = run.phases["compute"].ms if run.phases else 0.0
    update = run.compute.optimizer_ms if run.compute else None
    return max(1.0 - update / whole, 0.0) if update and whole > 0 else 1.0
