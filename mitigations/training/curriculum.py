"""Show easy examples first.

Does: orders examples by difficulty, or lets the pool of examples grow from the easy ones.
Helps: noisy data and trainings that end long before they converge.
Avoid: standard data sets at standard budgets.
Safety: changes_training. Another order of the examples.
Place: reorder x data. The same examples at other times.
Source: Wu et al. (2012.03107), "When do curricula work?"; Bengio et al. (2009).
Against: marginal on standard benchmarks and budgets, and no better than random orders there; it
    helps with little time or noisy labels only (2012.03107).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps, indexed
from speedprof.profiler.run import Run

HOPE = "easy examples first may bring early progress"
BY_HAND = """\
order = scores.argsort().tolist()  # easy ones first
pool = order[: max(batch_size, int(len(order) * min(1.0, step / (0.5 * total_steps))))]"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, indexed, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("curriculum", __doc__, treats=BOTH, assess=assess)
