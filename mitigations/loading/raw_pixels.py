"""Store decoded pixels instead of JPEG.

Does: decodes every image once, offline, into one memory-mapped file of raw pixels.
Helps: a CPU that cannot decode fast enough, beside memory that holds the raw data.
Avoid: data that has to come from a disk or over a network raw: five to ten times the bytes.
Safety: exact. The same pixels that the decoder would have returned.
Place: system. The same samples, kept in another form.
Source: FFCV's benchmarks (AWS p3dn.24xlarge, all cores): from memory 172,801 images/s raw at 256
    pixels, 31,278 as JPEG at 512; from network storage raw at 512 gave 1,956 and JPEG 16,631.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import waiting_ms
from speedprof.advisor.shares import number, percent, size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.images import (
    JPEG_BYTES_PER_PIXEL,
    before_transforms,
    bytes_per_sample,
    makes_images,
)
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

RAW = 3.0 / JPEG_BYTES_PER_PIXEL  # times the bytes of JPEG, for three colours
MEMORY_SHARE = 0.5  # of the free memory, for the page cache to hold all of it
WORTH = 0.2  # of making a batch
LEAST, MOST = 0.7, 0.98  # of the decoding: copying raw pixels takes the rest
BY_HAND = """\
# once, before training: all pixels in one file, and where each image begins
sizes, labels, at = [], [], 0
with open("pixels.raw", "wb") as file:
    for image, label in {dataset}(DATA):  # without transforms
        file.write(image.tobytes())
        sizes.append((at, image.height, image.width)); labels.append(label)
        at += 3 * image.height * image.width
torch.save((sizes, labels), "pixels.index")

# {where}: in the data set's __getitem__, instead of opening and decoding
at, height, width = self.sizes[index]  # self.pixels = numpy.memmap("pixels.raw", mode="r")
image = Image.fromarray(self.pixels[at : at + 3 * height * width].reshape(height, width, 3))"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    if loader.iterable or not makes_images(loader):
        return Misfit(reason=f"{loader.dataset} was not seen to decode indexed images")
    part, each, free = before_transforms(loader), bytes_per_sample(loader), _free(run)
    waiting = waiting_ms(run, loader)
    if part is None or each is None or free is None or waiting is None or not loader.length:
        return Misfit(reason="what decoding costs or reads, or the free memory, was not measured")
    if part < WORTH:
        return Misfit(reason=f"decoding is only {percent(part)} of making a batch")
    return _fit(run, finding, loader, part, each * RAW * loader.length)


def _fit(run: Run, finding: Finding, loader: Loader, part: float, raw: float) -> Fit | Misfit:
    free = _free(run) or 0
    if raw > MEMORY_SHARE * free:
        return Misfit(
            reason=f"the raw pixels would be about {size(raw)}, {size(free)} of memory are free, "
            "and from a disk raw pixels are slower than JPEG"
        )
    return Fit(
        reason=f"decoding is {percent(part)} of making a batch; the raw pixels, about "
        f"{number(RAW)} times the bytes, would be {size(raw)} of {size(free)} free",
        gain=cheaper(run, finding, LEAST * part, MOST * part, what="preparing batches"),
        by_hand=BY_HAND.format(
            dataset=loader.dataset, where=loader.where or "where the data set is made"
        ),
    )


def _free(run: Run) -> int | None:
    return facts.available_bytes(run)


MITIGATION = remedy(
    "raw-pixels",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
    conflicts=("cache-samples", "decode-on-gpu", "ffcv-loader"),
    after=("smaller-images",),
)
