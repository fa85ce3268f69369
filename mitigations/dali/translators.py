"""One of torchvision's transforms each, as DALI steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from speedprof.mitigations.dali import colours, steps
from speedprof.mitigations.dali.levels import RandomLevels
from speedprof.mitigations.dali.policies import KNOWN, Entry, Policy, space_of
from speedprof.mitigations.dali.stage import RefusedError, Stage
from speedprof.mitigations.dali.steps import Step
from speedprof.mitigations.dali.values import (
    fill_of,
    filtering,
    floats,
    ints,
    padding_of,
    pair,
    warping,
)

# -- geometry


def _resize(transform: Any, stage: Stage) -> list[Step]:
    size = ints(transform.size)
    if transform.max_size is not None and len(size) == 2:
        raise RefusedError("max_size goes with one length only")
    return [
        steps.Resize(
            size=size,
            most=transform.max_size,
            **filtering(transform, stage),
        )
    ]


def _random_resized_crop(transform: Any, stage: Stage) -> list[Step]:
    return [
        steps.RandomResizedCrop(
            size=pair(transform.size),
            scale=floats(transform.scale),
            ratio=floats(transform.ratio),
            **filtering(transform, stage),
        )
    ]


def _center_crop(transform: Any, _stage: Stage) -> list[Step]:
    return [steps.CenterCrop(pair(transform.size))]


def _random_crop(transform: Any, stage: Stage) -> list[Step]:
    if transform.pad_if_needed:
        raise RefusedError("pad_if_needed")
    padding = (0, 0, 0, 0) if transform.padding is None else padding_of(transform)
    return [steps.RandomCrop(pair(transform.size), padding, fill_of(transform, stage))]


def _pad(transform: Any, stage: Stage) -> list[Step]:
    return [steps.Pad(padding_of(transform), fill_of(transform, stage))]


def _horizontal(transform: Any, _stage: Stage) -> list[Step]:
    return [steps.RandomFlip(float(transform.p), horizontal=True)]


def _vertical(transform: Any, _stage: Stage) -> list[Step]:
    return [steps.RandomFlip(float(transform.p), horizontal=False)]


def _rotation(transform: Any, stage: Stage) -> list[Step]:
    if transform.expand:
        raise RefusedError("expand=True gives images of several sizes")
    low, high = floats(transform.degrees)
    return [_affine_step(transform, stage, degrees=(-high, -low))]


def _affine(transform: Any, stage: Stage) -> list[Step]:
    given = {
        name: None if getattr(transform, name) is None else floats(getattr(transform, name))
        for name in ("translate", "scale", "shear")
    }
    return [_affine_step(transform, stage, degrees=floats(transform.degrees), **given)]


def _affine_step(transform: Any, stage: Stage, **given: Any) -> Step:
    center = None if transform.center is None else floats(transform.center)
    ranges = {"translate": None, "scale": None, "shear": None} | given
    return steps.RandomAffine(
        center=center, interpolation=warping(transform), fill=fill_of(transform, stage), **ranges
    )


def _blur(transform: Any, _stage: Stage) -> list[Step]:
    kernel = pair(transform.kernel_size)
    return [steps.GaussianBlur(kernel, floats(transform.sigma))]


def _erasing(transform: Any, stage: Stage) -> list[Step]:
    if stage.kind == "PIL":
        raise RefusedError("it takes tensors, and these are PIL images")
    value = transform.value
    if value is None or isinstance(value, str):
        raise RefusedError("noise in place of what is erased")
    values = floats(value) if isinstance(value, (list, tuple)) else (float(value),)
    if stage.kind == "bytes":
        raise RefusedError("it comes before the conversion to floats")
    scale, ratio = floats(transform.scale), floats(transform.ratio)
    return [steps.RandomErasing(float(transform.p), scale, ratio, values)]


# -- colours


def _jitter(transform: Any, stage: Stage) -> list[Step]:
    stage.need_colour()
    names = ("brightness", "contrast", "saturation", "hue")
    ranges = [getattr(transform, name) for name in names]
    kept = [None if one is None else floats(one) for one in ranges]
    return [colours.ColorJitter(tuple(kept))] if any(kept) else []  # type: ignore[arg-type]


def _grayscale(transform: Any, stage: Stage) -> list[Step]:
    stage.need_colour()
    stage.channels = int(transform.num_output_channels)
    return [colours.Grayscale(stage.channels)]


def _random_grayscale(transform: Any, stage: Stage) -> list[Step]:
    stage.need_colour()
    return [colours.RandomGrayscale(float(transform.p))]


# -- levels


def _invert(transform: Any, stage: Stage) -> list[Step]:
    return _levels(transform, stage, "solarize", 0.0)


def _posterize(transform: Any, stage: Stage) -> list[Step]:
    return _levels(transform, stage, "posterize", float(transform.bits))


def _solarize(transform: Any, stage: Stage) -> list[Step]:
    return _levels(transform, stage, "solarize", float(transform.threshold))


def _autocontrast(transform: Any, stage: Stage) -> list[Step]:
    return _levels(transform, stage, "stretch", 0.0)


def _equalize(transform: Any, stage: Stage) -> list[Step]:
    return _levels(transform, stage, "equalize", 0.0)


def _sharpness(transform: Any, stage: Stage) -> list[Step]:
    return _levels(transform, stage, "sharpen", float(transform.sharpness_factor))


def _levels(transform: Any, stage: Stage, operation: str, strength: float) -> list[Step]:
    stage.need_bytes()
    return [RandomLevels(operation, strength, float(transform.p))]


# -- policies


def _auto_augment(transform: Any, stage: Stage) -> list[Step]:
    listed = getattr(transform, "policies", None) or transform._policies
    pairs = tuple(
        tuple(_entry(name, odds, strength) for name, odds, strength in pair) for pair in listed
    )
    return [_policy(transform, stage, bins=10, stages=2, strength=None, pairs=pairs)]


def _entry(name: str, odds: float, strength: int | None) -> Entry:
    return name, float(odds), strength or 0


def _rand_augment(transform: Any, stage: Stage) -> list[Step]:
    bins, strength = int(transform.num_magnitude_bins), int(transform.magnitude)
    if not 0 <= strength < bins:
        raise RefusedError(f"magnitude {strength} of {bins}")
    stages = int(transform.num_ops)
    return [_policy(transform, stage, bins=bins, stages=stages, strength=strength, pairs=())]


def _trivial_augment(transform: Any, stage: Stage) -> list[Step]:
    bins = int(transform.num_magnitude_bins)
    return [_policy(transform, stage, bins=bins, stages=1, strength=None, pairs=())]


def _policy(transform: Any, stage: Stage, *, bins: int, **how: Any) -> Step:
    stage.need_bytes()
    stage.need_colour()
    space = space_of(transform, bins)
    unknown = [name for name in space.names if name not in KNOWN]
    if unknown:
        raise RefusedError(f"its {', '.join(unknown)} has no equal in DALI")
    interpolation = warping(transform)
    return Policy(space, interpolation=interpolation, fill=fill_of(transform, stage), **how)


# -- types


def _to_tensor(_transform: Any, stage: Stage) -> list[Step]:
    stage.kind = "floats"
    return [steps.ToFloats()]


def _to_bytes(_transform: Any, stage: Stage) -> list[Step]:
    stage.kind = "bytes" if stage.kind == "PIL" else stage.kind
    return []


def _to_dtype(transform: Any, stage: Stage) -> list[Step]:
    import torch

    wanted = transform.dtype
    if isinstance(wanted, dict):
        raise RefusedError("a dtype for each kind of input")
    if stage.kind == "PIL":
        raise RefusedError("it takes tensors, and these are PIL images")
    if wanted == (torch.uint8 if stage.kind == "bytes" else torch.float32):
        return []
    if stage.kind == "bytes" and wanted == torch.float32 and getattr(transform, "scale", True):
        stage.kind = "floats"
        return [steps.ToFloats()]
    raise RefusedError(f"{wanted} without scaling, or not from bytes")


def _normalize(transform: Any, stage: Stage) -> list[Step]:
    if stage.kind != "floats":
        raise RefusedError("it takes floats")
    mean, std = floats(transform.mean), floats(transform.std)
    if len(mean) != len(std) or len(mean) not in (1, stage.channels):
        raise RefusedError(f"{len(mean)} means for {stage.channels} channels")
    stage.normalised = True
    return [steps.Normalize(mean, std)]


def _nothing(_transform: Any, _stage: Stage) -> list[Step]:
    return []


def _rgb(_transform: Any, stage: Stage) -> list[Step]:
    stage.need_colour()
    return []


def _preset(transform: Any, stage: Stage) -> list[Step]:
    """Translate the transform that torchvision's pretrained weights come with."""
    stage.kind, stage.normalised = "floats", True
    resize = steps.Resize(
        size=ints(transform.resize_size),
        most=None,
        **filtering(transform, Stage()),
    )
    crop = steps.CenterCrop(pair(transform.crop_size))
    normalise = steps.Normalize(floats(transform.mean), floats(transform.std))
    return [resize, crop, steps.ToFloats(), normalise]


TRANSLATORS: dict[str, Callable[[Any, Stage], list[Step]]] = {
    "Resize": _resize,
    "RandomResizedCrop": _random_resized_crop,
    "CenterCrop": _center_crop,
    "RandomCrop": _random_crop,
    "Pad": _pad,
    "RandomHorizontalFlip": _horizontal,
    "RandomVerticalFlip": _vertical,
    "RandomRotation": _rotation,
    "RandomAffine": _affine,
    "GaussianBlur": _blur,
    "RandomErasing": _erasing,
    "ColorJitter": _jitter,
    "Grayscale": _grayscale,
    "RandomGrayscale": _random_grayscale,
    "RandomInvert": _invert,
    "RandomPosterize": _posterize,
    "RandomSolarize": _solarize,
    "RandomAutocontrast": _autocontrast,
    "RandomEqualize": _equalize,
    "RandomAdjustSharpness": _sharpness,
    "AutoAugment": _auto_augment,
    "RandAugment": _rand_augment,
    "TrivialAugmentWide": _trivial_augment,
    "ToTensor": _to_tensor,
    "PILToTensor": _to_bytes,
    "ToImage": _to_bytes,
    "ToDtype": _to_dtype,
    "ConvertImageDtype": _to_dtype,
    "Normalize": _normalize,
    "ToPureTensor": _nothing,
    "Identity": _nothing,
    "RGB": _rgb,
    "ImageClassification": _preset,
}
