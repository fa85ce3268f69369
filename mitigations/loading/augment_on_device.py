"""Augment batches on the device.

Does: moves augmentation from the workers to the GPU, behind the copy, with a library that draws
    for every sample (Kornia, DALI).
Helps: strong augmentation (AutoAugment, colour jitter, blur) on too few cores, beside a GPU with
    time to spare.
Avoid: a GPU that is busy already; transforms that draw once for a whole batch, which changes the
    training; transforms of images of different sizes, before the crop.
Safety: reseeded. The same distribution, drawn by other generators; interpolation may round.
Place: system (nearest action: replace x data). The same augmentation on another processor.
Source: MosaicML Composer's card of ColOut: about 11 % more throughput for ResNet-50 on ImageNet
    batch-wise on the GPU where the CPU was the limit; its card of RandAugment: depth 2 on the CPU
    brings 612 down to 277 images/s a GPU (V100 with 8 cores each).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.images import transforming
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.loading.spare_device import no_time_to_spare
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

# those that leave an image's size alone, so that whole batches can take them
MOVABLE = (
    "RandomHorizontalFlip", "RandomVerticalFlip", "RandomGrayscale", "RandomErasing",
    "RandomAffine", "RandomRotation", "RandomPerspective", "RandomAdjustSharpness",
    "RandomSolarize", "RandomPosterize", "RandomInvert", "RandomEqualize", "RandomAutocontrast",
    "RandomPhotometricDistort", "ColorJitter", "GaussianBlur", "GaussianNoise", "ElasticTransform",
    "AutoAugment", "RandAugment", "TrivialAugment", "AugMix", "MixUp", "CutMix", "Normalize",
)  # fmt: skip
WORTH = 0.15  # of making a batch
LEAST, MOST = 0.7, 1.0  # of the CPU time moved: the GPU takes some of it back
BY_HAND = """\
# {where}: take {names} out of the transforms (pip install kornia), and in the training loop,
# after the batch is on the device; each sample draws for itself (same_on_batch=False)
augment = torch.nn.Sequential(
    kornia.augmentation.RandomHorizontalFlip(), kornia.augmentation.ColorJitter(0.4, 0.4, 0.4),
)
images = augment(images)  # in training only, not in evaluation"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader, hindrance = run.training_loader(), no_time_to_spare(run)
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    if hindrance is not None:
        return Misfit(reason=hindrance)
    part = transforming(loader, *MOVABLE)
    if part is None:
        return Misfit(reason="the transforms were not timed")
    if part < WORTH:
        return Misfit(
            reason=f"only {percent(part)} of making a batch are transforms that can be moved"
        )
    names = ", ".join(_movable(loader))
    return Fit(
        reason=f"{percent(part)} of making a batch are {names}, and the GPU computes for "
        f"{percent(run.share('compute') or 0)} of the step only",
        gain=cheaper(run, finding, LEAST * part, MOST * part, what="preparing batches"),
        by_hand=BY_HAND.format(where=loader.where or "where the data set is made", names=names),
    )


def _movable(loader: Loader) -> list[str]:
    return [one.name for one in loader.transforms if one.name.startswith(MOVABLE)]


MITIGATION = remedy(
    "augment-on-device",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
    after=("loader-workers",),
)
