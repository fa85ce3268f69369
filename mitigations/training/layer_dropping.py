"""Skip random layers in each step.

Does: leaves out residual blocks at random, more of them towards the output and with time
    (stochastic depth, LayerDrop, progressive layer dropping).
Helps: very deep residual networks and transformers, as a regulariser.
Avoid: budgets of time: dropping per sample computes everything and masks it.
Safety: changes_training. Another network in each step.
Place: remove x function. Layers go for a step.
Source: Zhang and He (2020), progressive layer dropping for BERT: 24 % less time per sample, 2.5
    times less to the same GLUE score.
Against: per sample it is 5 % slower (MosaicML Composer's card), and with the budget held fixed
    dropping layers gained nothing for BERT and T5 ("No Train No Gain", 2307.06440).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, anything, shorter_steps
from speedprof.profiler.run import Run

FASTER = (1.0, 1.0 / 0.76)  # per batch: nothing to the published 24 %
LESS = "dropped layers"
BY_HAND = """\
if not self.training or torch.rand(()) < keep[depth]:  # per batch, not per sample
    hidden = hidden + layer(hidden) / (keep[depth] if self.training else 1.0)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return shorter_steps(run, anything, faster=FASTER, less=LESS, by_hand=BY_HAND)


MITIGATION = remedy("layer-dropping", __doc__, treats=BOTH, assess=assess)
