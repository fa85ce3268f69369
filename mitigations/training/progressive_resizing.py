"""Start with small images and let them grow.

Does: trains the first half at half the side length, grows to the full one until four fifths, and
    ends with it.
Helps: convolutional and other image models whose step is computing.
Avoid: loaders near their limit (early steps want up to four times the images); models that take
    one size only; together with other shrinking of images.
Safety: changes_training. Early steps see less detail; check the accuracy at the end.
Place: reorder x data. Resolutions come one after another.
Source: MosaicML Composer (initial scale 0.5, delay 0.5, finetune 0.2 for ResNet-50 on ImageNet); a
    part of what made its MLPerf 2022 result 4.5 times faster (110.5 to 23.8 minutes on 8 A100);
    1.10x where the loader was the limit.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, images, shorter_steps
from speedprof.profiler.run import Run

FASTER = (1.3, 2.0)  # the recipe computes half of the pixels; small images use devices less well
LESS = "half of the pixels, as a mean over the training"
BY_HAND = """\
def scale(done):  # 0..1 of the training: half the side for a half, all of it for the last fifth
    return 0.5 + 0.5 * min(max((done - 0.5) / 0.3, 0.0), 1.0)

side = round(images.shape[-1] * scale(step / total_steps) / 4) * 4
images = torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear")"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return shorter_steps(run, images, faster=FASTER, less=LESS, by_hand=BY_HAND)


MITIGATION = remedy(
    "progressive-resizing",
    __doc__,
    treats=BOTH,
    assess=assess,
    how="patch",
    conflicts=("lower-resolution", "colout"),
)
