"""Look for flat minima.

Does: computes a second gradient at a perturbed point (SAM), every tenth step.
Helps: image classifiers trained for many epochs: quality that may be spent on fewer of them.
Avoid: language models that see each sample once; every step (half the throughput).
Safety: changes_training. Another direction of each update.
Place: retrofit x optimization. Something is added to the updates.
Source: Foret et al. (2020); MosaicML Composer's card, every 10 steps: 0.7 % more accuracy for
    ResNet-50 at 7 % less throughput.
Against: each step gets longer (7 %, or twice with every step), and it does not help where samples
    are seen once, as in language models (Composer's card).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps, images
from speedprof.profiler.run import Run

HOPE = "flatter minima may generalise after fewer epochs, at 7 % longer steps"
BY_HAND = """\
if step % 10 == 0:
    optimizer.first_step(zero_grad=True)  # to the perturbed point, after backward
    loss_of(model, batch).backward()
    optimizer.second_step()"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, images, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("sharpness-aware", __doc__, treats=BOTH, assess=assess)
