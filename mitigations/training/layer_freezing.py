"""Stop training the first layers early.

Does: freezes layers from the input on as training goes on: no backward for them, no update, and no
    gradients to exchange between ranks.
Helps: fine-tuning of pretrained models.
Avoid: training from scratch; DistributedDataParallel wrapped before the freezing.
Safety: changes_training. Frozen layers stay as they are; check the accuracy.
Place: remove x optimization. Gradients and updates go.
Source: FreezeOut (1706.04983): up to 20 % less time, at 3 % of accuracy for DenseNet and none for
    VGG; MosaicML Composer's card: about 5 % more throughput for ResNet-50 on ImageNet.
Against: from scratch on convolutional networks it costs 0.5 to 1 % of accuracy for 5 % (Composer:
    "no evidence" of a better trade-off).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication_gains import smaller
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, anything, shorter_steps
from speedprof.profiler.run import Run

FASTER = (1.05, 1.25)  # Composer's 5 % to FreezeOut's 20 % of the time
LESS = "backward of frozen layers"
FROZEN = 1.5  # times fewer bytes where a third of the parameters is frozen
FIXED = 0.5  # of the exchange, assumed: what does not depend on its bytes
BY_HAND = """\
# a third of the way through the training, then again with more layers; wrap in DDP again after it
for parameter in first_layers.parameters():
    parameter.requires_grad_(False)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not run.models:
        return Misfit(reason="the model was not seen")
    frozen = _frozen(run)
    if frozen:
        return Misfit(reason=f"{percent(frozen)} of the parameters are frozen already")
    if finding.phase != "communication":
        return shorter_steps(run, anything, faster=FASTER, less=LESS, by_hand=BY_HAND)
    return Fit(
        reason=f"frozen layers exchange no gradients; exchanging takes {percent(finding.share)} "
        "of the step",
        gain=smaller(finding.low, finding.high, ratio=FROZEN, fixed=FIXED, coding=0.0),
        by_hand=BY_HAND,
    )


def _frozen(run: Run) -> float:
    """Return the share (0..1) of the parameters that are known to be frozen."""
    largest = max(run.models, key=lambda model: model.parameters)
    if largest.trainable is None or not largest.parameters:
        return 0.0
    return 1.0 - largest.trainable / largest.parameters


MITIGATION = remedy(
    "layer-freezing", __doc__, treats=(*BOTH, ("communication", "transfer")), assess=assess
)
