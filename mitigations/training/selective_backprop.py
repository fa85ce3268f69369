"""Skip the backward pass of examples that are learnt already.

Does: computes the loss of each example first and trains on those with large ones.
Helps: large, redundant data sets; models whose loss is cheap to compute (smaller images).
Avoid: fixed budgets on language models; fewer than a third of the examples dropped, because the
    selecting forward pass takes about a third of a step.
Safety: changes_training. Easy examples are seen less; check the accuracy.
Place: remove x data. Examples go from backward.
Source: Jiang et al. (1910.00762): up to 3.5 times on CIFAR-10 and SVHN; MosaicML Composer's card:
    ResNet-50 on ImageNet, 90 epochs on 8 RTX 3090, 5:43 to 5:22 hours at the same 76.46 %.
Against: measured again it saves 6 to 8 % (Composer), and with the budget held fixed its gain
    vanishes for BERT and T5 ("No Train No Gain", 2307.06440).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, anything, shorter_steps
from speedprof.profiler.run import Run

FASTER = (1.03, 1.1)  # what Composer measured: 343 to 322 minutes, 35.6 to 32.6 on CIFAR-10
LESS = "backward of half of the examples, in a part of the training"
BY_HAND = """\
with torch.no_grad():
    losses = loss_of_each(model(inputs), targets)
hard = losses.topk(len(losses) // 2).indices
loss = loss_of_each(model(inputs[hard]), targets[hard]).mean()"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return shorter_steps(run, anything, faster=FASTER, less=LESS, by_hand=BY_HAND)


MITIGATION = remedy("selective-backprop", __doc__, treats=BOTH, assess=assess)
