"""Load images with FFCV.

Does: writes the data set once into FFCV's own file and replaces DataLoader and transforms by its
    loader, whose fused, compiled transforms run in threads.
Helps: image classification limited by decoding, transforming or reading small files.
Avoid: transforms that FFCV does not have; environments that cannot build it (OpenCV,
    libjpeg-turbo and numba, last release in 2023); a loader that keeps up already.
Safety: rounding. Images may be encoded again, other kernels resize them, and its own generators
    shuffle and augment.
Place: system. The same samples by another loader.
Source: FFCV (CVPR 2023): ResNet-50 on ImageNet with 8 A100, 16 epochs in 14.9 minutes (73.8 %), 88
    in 77.2 (78.4 %), of the whole recipe; its loading benchmark: 31,278 images/s from memory at
    512 pixels, JPEG of quality 90, on the 96 hardware threads of an AWS p3dn.24xlarge.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.advisor.shares import number, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.images import bytes_per_sample, makes_images
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

# 96 threads / 31,278 images/s; 65.47 GB / 1,281,167 images: 3.07 ms for 51 kB, with a random
# resized crop and a flip. Two threads share a core there, so a core of its own is up to twice as
# fast; better encoded images have more bytes for the same pixels.
MS_PER_BYTE = 3.07 / 51.1e3
CORE_PER_THREAD = 2.0
FASTER = 1.3  # times at least, before another loader and file format repay their trouble
MOST_FASTER = 8.0
BY_HAND = """\
# once, before training
DatasetWriter("train.beton", dict(image=RGBImageField(write_mode="jpg", jpeg_quality=90),
              label=IntField())).from_indexed_dataset({dataset}(DATA))
# {where}, instead of DataLoader(...)
loader = Loader("train.beton", batch_size={batch}, num_workers={workers}, order=OrderOption.RANDOM,
    pipelines=dict(image=[RandomResizedCropRGBImageDecoder((224, 224)), RandomHorizontalFlip(),
                   ToTensor(), ToDevice(device), ToTorchImage()],
                   label=[IntDecoder(), ToTensor(), ToDevice(device)]))"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    if loader.iterable or not makes_images(loader):
        return Misfit(reason=f"{loader.dataset} was not seen to decode indexed images")
    cpu, each = preparation_cpu_ms(loader), bytes_per_sample(loader)
    if not cpu or each is None or not loader.batch_size:
        return Misfit(reason="what a sample costs and reads was not measured")
    now, published = cpu / loader.batch_size, MS_PER_BYTE * each
    fastest = min(now * CORE_PER_THREAD / published, MOST_FASTER)
    if fastest < FASTER:
        return Misfit(
            reason=f"a sample of {size(each)} costs {number(now)} ms of CPU; by its own benchmark "
            f"FFCV takes {number(published)}"
        )
    slowest = min(max(now / published, 1.0), fastest)
    return Fit(
        reason=f"a sample of {size(each)} costs {number(now)} ms of CPU; by its own benchmark "
        f"FFCV takes {number(published / CORE_PER_THREAD)} to {number(published)}",
        gain=cheaper(
            run, finding, 1.0 - 1.0 / slowest, 1.0 - 1.0 / fastest, what="preparing batches"
        ),
        by_hand=_by_hand(loader),
    )


def _by_hand(loader: Loader) -> str:
    return BY_HAND.format(
        dataset=loader.dataset,
        where=loader.where or "where it is made",
        batch=loader.batch_size,
        workers=max(loader.num_workers, 1),
    )


MITIGATION = remedy(
    "ffcv-loader",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
    conflicts=("faster-decoding", "decode-on-gpu", "raw-pixels", "sharded-files"),
    after=("loader-workers",),
)
