"""Choose the examples that teach most.

Does: scores candidates (RHO-LOSS: by a small model trained on held-out data; importance sampling:
    by their gradient's bound) and trains on the best of them.
Helps: noisy, redundant data from the web.
Avoid: clean data sets; fixed budgets: scoring takes its time, too.
Safety: changes_training. Another distribution of examples.
Place: remove x data. Most candidates are not trained on.
Source: Mindermann et al. (2206.07137): 18 times fewer steps on Clothing-1M, scoring not counted.
Against: with the budget held fixed, RHO-LOSS gained nothing for BERT and T5 ("No Train No Gain",
    2307.06440).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, anything, fewer_steps
from speedprof.profiler.run import Run

HOPE = "examples chosen by their loss may teach as much in fewer steps"
BY_HAND = """\
with torch.no_grad():
    gain = loss_of_each(model(inputs), targets) - held_out_loss[indices]  # of a larger batch
best = gain.topk(len(gain) // 10).indices"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, anything, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("importance-sampling", __doc__, treats=BOTH, assess=assess)
