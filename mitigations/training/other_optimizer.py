"""Use another optimizer.

Does: replaces Adam or SGD by Shampoo, Lion, Sophia or the like, with its hyperparameters tuned.
Helps: large pretrainings, whose tuning is paid for once.
Avoid: comparing with an untuned baseline; little device memory (Shampoo keeps more state).
Safety: changes_training. Other updates; everything has to be tuned anew.
Place: replace x optimization. Another algorithm.
Source: "No Train No Gain" (2307.06440); the papers of Lion and Sophia (2023) report fewer steps.
Against: at a fixed budget the gains of Lion and Sophia vanish for BERT and T5, against Adam with
    a fully decayed learning rate (2307.06440).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps
from speedprof.profiler.run import Run

OTHERS = ("Lion", "Sophia", "Shampoo", "SOAP", "Muon", "KFAC", "LAMB", "LARS")
HOPE = "another optimizer may need fewer steps"
BY_HAND = """\
# tune the optimizer that is there first: learning rate, decay to nothing, weight decay, betas
optimizer = Lion(model.parameters(), lr=learning_rate / 10, weight_decay=10 * weight_decay)"""


def known(run: Run) -> str | None:
    """Return why there is nothing to replace."""
    if not run.optimizers:
        return "the optimizer was not seen"
    names = sorted({one.name for one in run.optimizers})
    if any(name.startswith(OTHERS) for name in names):
        return f"the optimizer is {', '.join(names)} already"
    return None


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, known, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("other-optimizer", __doc__, treats=BOTH, assess=assess)
