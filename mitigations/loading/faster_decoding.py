"""Decode images faster: with NVIDIA DALI, or from smaller files.

Does: decodes with DALI (on the GPU where there is one, on the CPU otherwise), or stores the images
    once at about the size that training uses.
Helps: image folders whose CPU time goes into decoding JPEG and resizing.
Avoid: samples that are not images; a loader that keeps up already.
Safety: rounding. Decoders and resizers differ by a few grey levels.
Place: system. The same images, decoded by another program.
Source: NVIDIA's lab page: 1.3x to 3x on one GPU; NERSC's tutorial with 2 to 16 workers: 85 and 208
    to 577 samples/s; FFCV: ImageNet shrinks from 75 to 22 GB at 256 pixels.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.facts import is_gpu
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

IMAGE_SETS = ("image", "folder", "coco", "voc", "celeba", "flowers", "food101", "places")
IMAGE_STEPS = ("Resize", "RandomResizedCrop", "CenterCrop", "PILToTensor", "ToImage", "ToTensor")
RESIZING = ("Resize", "RandomResizedCrop")
WORTH = 0.2  # of making a batch
FASTEST = {
    True: 4.0,
    False: 2.0,
}  # by whether a GPU decodes; NERSC's 2.8x over 16 workers is in between
SLOWEST = 1.2
PILLOW = """\
# {where}: no new library: let the JPEG decoder shrink while it decodes (Pillow), before Resize
image = Image.open(path); image.draft("RGB", (2 * size, 2 * size))
# or once, offline: store every image with its shorter side at about twice the training size"""
DALI = """\
# {where}: pip install nvidia-dali-cuda120, then
@pipeline_def(batch_size={batch}, num_threads=4, device_id={device})
def batches():
    files, labels = fn.readers.file(file_root=DATA, random_shuffle=True, name="train")
    images = fn.decoders.image(files, device="{kind}")
    return fn.resize(images, resize_shorter=256), labels
"""


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
    gpu = is_gpu(run)
    where = loader.where or "where the DataLoader is made"
    device, kind = ("0", "mixed") if gpu else ("None", "cpu")
    return Fit(
        reason=(
            f"decoding and resizing are {percent(part)} of the "
            f"{number(preparation_cpu_ms(loader) or 0)} ms "
            "of CPU that a batch costs"
        ),
        gain=speeding_up(
            finding.share * part, SLOWEST, FASTEST[gpu], what="decoding and resizing images"
        ),
        by_hand=DALI.format(where=where, batch=loader.batch_size, device=device, kind=kind)
        + PILLOW.format(where=where),
    )


def makes_images(loader: Loader) -> bool:
    """Tell whether the data set or its transforms are known to be of images."""
    named = loader.dataset.lower()
    return any(word in named for word in IMAGE_SETS) or any(
        step.name in IMAGE_STEPS for step in loader.transforms
    )


def decoding(loader: Loader) -> float | None:
    """Return the part of a batch's CPU time that is neither collating nor another transform."""
    cpu = preparation_cpu_ms(loader)
    if not cpu or not loader.transforms or not loader.batch_size:
        return None
    others = sum(
        step.ms_per_sample * loader.batch_size
        for step in loader.transforms
        if step.name not in RESIZING
    )
    return min(max(1.0 - (others + (loader.collate_cpu_ms or 0.0)) / cpu, 0.0), 1.0)


MITIGATION = remedy(
    "faster-decoding", __doc__, treats=(("data_loading", "cpu_preparation"),), assess=assess
)
