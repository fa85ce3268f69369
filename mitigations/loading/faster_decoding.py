"""Decode images faster on the CPU.

Does: lets the JPEG decoder shrink while it decodes (Pillow's `draft`), or decodes with
    libjpeg-turbo (`torchvision.io`) or with DALI on the CPU.
Helps: image folders whose CPU time goes into decoding JPEG and resizing.
Avoid: samples that are not images; a loader that keeps up already; images that are hardly larger
    than what is trained on (there is nothing to shrink).
Safety: rounding. Decoders and resizers differ by a few grey levels.
Place: system. The same images, decoded by another program.
Source: NERSC's tutorial (A100): 85 samples/s with 2 workers, 208 with 16, 577 with DALI, which
    decodes on the GPU, too; of CPU decoders alone no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.images import decoder_speed, decoding, makes_images
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WORTH = 0.2  # of making a batch
# Of the decoding, where no roof tells: a faster decoder saves a little at least, and shrinking
# while decoding half where the image is twice as large; assumed.
LEAST, MOST = 0.15, 0.5
BY_HAND = """\
# {where}: let the JPEG decoder shrink while it decodes (Pillow), before Resize
image = Image.open(path); image.draft("RGB", (2 * size, 2 * size))
# or, without PIL, with v2 transforms on the tensor that this returns
image = torchvision.io.decode_image(path, mode="RGB")"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    if not makes_images(loader):
        return Misfit(reason=f"{loader.dataset} was not seen to decode images")
    part = decoding(loader)
    if part is None:
        return Misfit(reason="the CPU time of a batch, or of its transforms, was not measured")
    if part < WORTH:
        return Misfit(reason=f"decoding and resizing are only {percent(part)} of making a batch")
    least, most = _saved(run)
    return Fit(
        reason=(
            f"decoding and resizing are {percent(part)} of the "
            f"{number(preparation_cpu_ms(loader) or 0)} ms of CPU that a batch costs"
        ),
        gain=cheaper(run, finding, least * part, most * part, what="preparing batches"),
        by_hand=BY_HAND.format(where=loader.where or "where the data set is made"),
    )


def _saved(run: Run) -> tuple[float, float]:
    """Return the least and the most of the decoding that goes, by this machine's own decoders."""
    pillow, other = decoder_speed(run, "pillow"), decoder_speed(run, "torchvision", "dali")
    if pillow is None or other is None:
        return LEAST, MOST
    saved = max(1.0 - pillow / other, 0.0)
    return saved / 2.0, max(saved, MOST)


MITIGATION = remedy(
    "faster-decoding",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
    conflicts=("decode-on-gpu", "ffcv-loader"),
)
