"""Leave out examples that teach little.

Does: scores all examples once (EL2N after a few epochs, forgetting events, distance from
    prototypes) and trains without the least useful ones.
Helps: large redundant data sets that are trained on many times.
Avoid: small data sets; scores that cost more than they save; rare classes.
Safety: changes_training. Fewer examples; check accuracy per class.
Place: remove x data. Examples go for good.
Source: Paul et al. (2021): half of CIFAR-10 could go at the same accuracy; Sorscher et al.
    (2206.14486): better than a power law in the size of the data, where examples are many.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps, indexed
from speedprof.profiler.run import Run

HOPE = "a pruned data set makes shorter epochs"
BY_HAND = """\
# scores: error norm of each example, a mean over a few short trainings
kept = scores.topk(int(0.7 * len(scores))).indices.tolist()
dataset = torch.utils.data.Subset(dataset, kept)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, indexed, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("data-pruning", __doc__, treats=BOTH, assess=assess)
