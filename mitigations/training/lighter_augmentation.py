"""Augment less.

Does: leaves out the costliest random transforms, or halves their depth.
Helps: loaders whose cores are used up, with RandAugment, AugMix and the like in their chain.
Avoid: long trainings on small data sets, which need it most; loaders that are not the limit.
Safety: changes_training. Less variety: check the accuracy at the planned length.
Place: remove x data. Fewer derived images.
Source: MosaicML Composer's cards: ResNet-50 with RandAugment of depth 2 fell from 612 to 277
    images/s per GPU on a V100 with 8 CPUs, and stayed at 212 on a T4 with 12; it buys 0.4 % of
    accuracy in 90 epochs, 1.15 % in 120; AugMix takes 1.1 to 10 times as long.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.late_batches import unsuited
from speedprof.profiler.run import Loader, Run, Transform

WORTH = 0.1  # of making a sample
LEAST = 0.5  # of the time goes: half the depth instead of none
HEAVY = (
    "RandAugment", "AutoAugment", "TrivialAugment", "AugMix", "ColorJitter", "GaussianBlur",
    "GaussianNoise", "Elastic", "RandomPerspective", "RandomAffine", "RandomRotation",
    "RandomErasing", "RandomAdjust", "RandomPhotometric", "RandomEqualize", "RandomAutocontrast",
    "RandomPosterize", "RandomSolarize", "RandomApply", "RandomChoice", "RandomOrder",
)  # fmt: skip


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance, loader = unsuited(run, finding), run.training_loader()
    if hindrance is not None or loader is None:
        return Misfit(reason=hindrance or "no DataLoader makes the batches")
    part = _part(loader)
    if part is None:
        return Misfit(reason="the transforms of the training were not timed")
    if part < WORTH:
        return Misfit(reason=f"only {percent(part)} of making a sample is heavy augmentation")
    names = ", ".join(
        f"{one.name} ({number(one.ms_per_sample)} ms a sample)" for one in _heavy(loader)
    )
    return Fit(
        reason=f"{percent(part)} of making a sample is augmentation: {names}",
        gain=removing(
            finding.low * part, finding.high * part, what="making augmentations", at_least=LEAST
        ),
        by_hand=f"# {loader.where or 'where the transforms are composed'}: leave out, or halve in "
        f"depth\n# {names}",
    )


def _heavy(loader: Loader) -> list[Transform]:
    return [one for one in loader.transforms if one.name.startswith(HEAVY)]


def _part(loader: Loader) -> float | None:
    """Return the part (0..1) of making a batch that is heavy augmentation."""
    if not loader.transforms or not loader.getitem_ms or not loader.batch_size:
        return None
    making = loader.getitem_ms + (loader.collate_ms or 0.0)
    heavy = loader.batch_size * sum(one.ms_per_sample for one in _heavy(loader))
    return min(heavy / making, 1.0)


MITIGATION = remedy(
    "lighter-augmentation",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=assess,
    after=("loader-workers",),
)
