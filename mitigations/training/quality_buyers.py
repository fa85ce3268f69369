"""Buy quality that costs little, and spend it on fewer epochs.

Does: adds label smoothing, mixup and blurred pooling (BlurPool) to an image classifier and
    shortens its schedule by what they gain.
Helps: image classifiers, whose step these hardly lengthen.
Avoid: many regularisers at once on short trainings: their gains do not add up.
Safety: changes_training. Other losses and inputs; check the accuracy at the shorter length.
Place: retrofit x data. Labels and inputs (BlurPool: function) get something added.
Source: MosaicML Composer's cards: label smoothing costs no throughput, BlurPool buys 0.5 to 1 % of
    accuracy for a slight slowdown; its composed recipe trained ResNet-50 2.9 times faster than an
    optimised baseline on 8 A100 (2022), with other methods besides.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps, images
from speedprof.profiler.run import Run

HOPE = "what costs no time but buys accuracy makes shorter trainings do"
BY_HAND = """\
criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
mixup = v2.MixUp(alpha=0.2, num_classes=classes)  # from torchvision.transforms import v2
images, labels = mixup(images, labels)  # in training only; then a shorter schedule"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, images, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("quality-buyers", __doc__, treats=BOTH, assess=assess, how="patch")
