"""What is known of a loader's images: that they are some, what decoding costs, how large."""

from __future__ import annotations

from collections.abc import Sequence

from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.profiler.run import Loader, Run

IMAGE_SETS = ("image", "folder", "coco", "voc", "celeba", "flowers", "food101", "places")
IMAGE_STEPS = ("Resize", "RandomResizedCrop", "CenterCrop", "PILToTensor", "ToImage", "ToTensor")
RESIZING = ("Resize", "RandomResizedCrop")
CHANNELS = (1, 3)
# ImageNet as JPEG of quality 90 has 22.01 GB at 256 pixels and 40.31 GB at 384, as raw pixels
# 169.79 and 371.20 GB (FFCV's benchmarks): 0.33 to 0.39 bytes a pixel.
JPEG_BYTES_PER_PIXEL = 0.36


def makes_images(loader: Loader) -> bool:
    """Tell whether the data set or its transforms are known to be of images."""
    named = loader.dataset.lower()
    return any(word in named for word in IMAGE_SETS) or any(
        step.name in IMAGE_STEPS for step in loader.transforms
    )


def decoding(loader: Loader) -> float | None:
    """Return the part of a batch's CPU time that is neither collating nor another transform."""
    others = [step.name for step in loader.transforms if step.name not in RESIZING]
    return _without(loader, others)


def before_transforms(loader: Loader) -> float | None:
    """Return the part of a batch's CPU time that comes before its transforms: decoding alone."""
    return _without(loader, [step.name for step in loader.transforms])


def transforming(loader: Loader, *names: str) -> float | None:
    """Return the part of a batch's CPU time in transforms whose names begin so."""
    cpu = preparation_cpu_ms(loader)
    if not cpu or not loader.transforms or not loader.batch_size:
        return None
    each = sum(step.ms_per_sample for step in loader.transforms if step.name.startswith(names))
    return min(each * loader.batch_size / cpu, 1.0)


def training_pixels(run: Run) -> int | None:
    """Return height x width of the images that are trained on, None where not recorded."""
    for shape in run.batch.shapes if run.batch else ():
        if len(shape) != 4:
            continue
        if shape[1] in CHANNELS:
            return shape[2] * shape[3]
        if shape[3] in CHANNELS:
            return shape[1] * shape[2]
    return None


def decoder_speed(run: Run, *decoders: str) -> float | None:
    """Return the best rate of these decoders on this machine, images/s; None without a roof."""
    measured = run.roofs.decoding.images_per_s if run.roofs and run.roofs.decoding else {}
    return max((measured[name].best for name in decoders if name in measured), default=None)


def bytes_per_sample(loader: Loader) -> float | None:
    """Return the bytes read for one sample, None where reading was not measured."""
    if not loader.read_bytes or not loader.batch_size:
        return None
    return loader.read_bytes / loader.batch_size


def _without(loader: Loader, names: Sequence[str]) -> float | None:
    cpu = preparation_cpu_ms(loader)
    if not cpu or not loader.transforms or not loader.batch_size:
        return None
    others = sum(
        step.ms_per_sample * loader.batch_size for step in loader.transforms if step.name in names
    )
    return min(max(1.0 - (others + (loader.collate_cpu_ms or 0.0)) / cpu, 0.0), 1.0)
