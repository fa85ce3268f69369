"""Store images once at about the size that training uses.

Does: resizes every image offline, so that less is read, decoded and resized in each epoch.
Helps: images of several megapixels that a transform shrinks to a few hundred pixels.
Avoid: random crops that need the full resolution; detection, whose small objects vanish; images
    that are hardly larger than what is trained on.
Safety: changes_training. Crops come from a smaller image, encoded twice: check the quality.
Place: restrict x data. Less of each image reaches the training.
Source: FFCV's benchmarks: ImageNet as JPEG of quality 90 has 75 GB at full size and 22 GB at 256
    pixels; no isolated figure of training time.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.images import (
    JPEG_BYTES_PER_PIXEL,
    RESIZING,
    bytes_per_sample,
    decoding,
    makes_images,
    training_pixels,
)
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

# An image of 4:3 whose shorter side is 256 where 224 x 224 are cropped.
PIXELS_KEPT = (256 / 224) ** 2 * 4 / 3
SMALLER = 1.5  # times at least: below it the second encoding costs more than it brings
# Originals are often encoded better than quality 90, so that bytes shrink more than pixels: of the
# ratio of bytes, at least half is of pixels (ImageNet: 110 kB originals, 58 kB at quality 90).
OF_BYTES = 0.5
BY_HAND = """\
# once, before training: every image with a shorter side of {side}, in a copy of the folder
for path in pathlib.Path(DATA).rglob("*.JPEG"):  # or your images' suffix
    image = Image.open(path).convert("RGB")
    scale = {side} / min(image.size)
    if scale < 1:
        image = image.resize([round(scale * side) for side in image.size], Image.BICUBIC)
    smaller = pathlib.Path(SMALLER, path.relative_to(DATA))
    smaller.parent.mkdir(parents=True, exist_ok=True)
    image.save(smaller, quality=90)
# {where}
dataset = {dataset}(SMALLER, ...)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    if not makes_images(loader) or not any(one.name in RESIZING for one in loader.transforms):
        return Misfit(reason=f"{loader.dataset} was not seen to shrink images")
    pixels, each = training_pixels(run), bytes_per_sample(loader)
    if pixels is None or each is None:
        return Misfit(reason="the size of the images, stored or trained on, was not measured")
    stored = PIXELS_KEPT * pixels * JPEG_BYTES_PER_PIXEL
    ratio = each / stored
    if ratio < SMALLER:
        return Misfit(
            reason=f"an image has {size(each)}; at about the training size it would have "
            f"{size(stored)}"
        )
    part = 1.0 if finding.cause == "storage" else decoding(loader)
    if part is None:
        return Misfit(reason="the CPU time of a batch was not measured")
    side = round(pixels**0.5)
    return Fit(
        reason=f"an image has {size(each)}, {number(ratio)} times what one at about the training "
        f"size ({side} x {side}) has, and reading or decoding it is {percent(part)} of the work",
        gain=cheaper(
            run, finding, *_saved(ratio, part), what="reading and decoding larger images"
        ),
        by_hand=_by_hand(loader, round(side * 256 / 224)),
    )


def _saved(ratio: float, part: float) -> tuple[float, float]:
    """Return the least and the most of the work that goes, 0..1."""
    pixels = max(1.0 + OF_BYTES * (ratio - 1.0), 1.0)
    return part * (1.0 - 1.0 / pixels), part * (1.0 - 1.0 / ratio)


def _by_hand(loader: Loader, side: int) -> str:
    where = loader.where or "where the data set is made"
    return BY_HAND.format(side=side, where=where, dataset=loader.dataset)


MITIGATION = remedy(
    "smaller-images",
    __doc__,
    treats=(("data_loading", "cpu_preparation"), ("data_loading", "storage")),
    assess=worth_rewriting(assess),
)
