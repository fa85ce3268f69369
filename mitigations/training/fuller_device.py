"""Let the waiting device buy quality.

Does: adds what costs only the device: squeeze-and-excitation blocks, an average of the weights, a
    somewhat larger model; and trains for fewer epochs, as quality allows.
Helps: devices that wait for a loader which cannot be made faster.
Avoid: steps that the device limits; models whose inference must not get slower.
Safety: changes_training. Another model.
Place: retrofit x function. Something is added, so that fewer steps suffice.
Source: MosaicML Composer's card of squeeze-and-excitation: about 20 % more latency in inference,
    a better trade-off nevertheless, and "more time for the data loader"; no figure for the rest.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, step_ms
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.late_batches import LATE, unsuited
from speedprof.profiler.run import Run

BY_HAND = """\
# a larger sibling of the model (ResNet-50 -> ResNet-101), or in convolutional blocks:
block.append(torchvision.ops.SqueezeExcitation(channels, channels // 8))
average = torch.optim.swa_utils.AveragedModel(
    model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = unsuited(run, finding)
    if hindrance is None and not facts.is_gpu(run):
        hindrance = f"the training runs on {run.device}, whose cores the loader needs"
    if hindrance is not None:
        return Misfit(reason=hindrance)
    mean, waiting = step_ms(run), run.share("data_loading")
    if mean is None or waiting is None:
        return Misfit(reason="the phases of the step were not measured")
    return Fit(
        reason=f"the device waits {number(mean * waiting)} ms of each step ({percent(waiting)}): "
        f"that much more computing costs no time, but {run.steps} steps cannot tell what it buys",
        gain=None,
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "fuller-device",
    __doc__,
    treats=LATE,
    assess=assess,
    after=("loader-workers", "cache-samples", "nearer-storage", "faster-decoding"),
)
