"""Train at a lower resolution than is evaluated.

Does: trains on crops of 176 pixels for an evaluation at 224, or in that proportion.
Helps: image models whose step is computing; loaders, which decode smaller images, too.
Avoid: small images, details that matter; together with other shrinking of images.
Safety: changes_training. Check the accuracy at the resolution of the evaluation.
Place: restrict x data. Fewer pixels each.
Source: FixRes (Touvron et al., 2019); 176 in training and 224 in evaluation in MosaicML's "mild"
    ResNet-50 recipe (2022); no published figure isolates it.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, image_side, images, shorter_steps
from speedprof.profiler.run import Run

SCALE = 176 / 224  # of the side: 0.62 of the pixels
FASTER = (1.2, 1.0 / SCALE**2)
SMALLEST = 96  # pixels: what is smaller has no detail to spare
BY_HAND = """\
transforms.RandomResizedCrop({small})  # in training, instead of {side}; evaluate at {side}"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    side = image_side(run)
    if side is not None and side < SMALLEST:
        return Misfit(reason=f"images of {side} pixels have no detail to spare")
    small = 176 if side is None else round(side * SCALE / 8) * 8
    return shorter_steps(
        run,
        images,
        faster=FASTER,
        less=f"images of {small} instead of {side or 224} pixels",
        by_hand=BY_HAND.format(small=small, side=side or 224),
    )


MITIGATION = remedy(
    "lower-resolution",
    __doc__,
    treats=BOTH,
    assess=assess,
    how="patch",
    conflicts=("progressive-resizing", "colout"),
)
