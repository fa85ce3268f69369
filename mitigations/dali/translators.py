"""One of torchvision's transforms each, as DALI steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from speedprof.mitigations.dali import colours, steps
from speedprof.mitigations.dali.levels import RandomLevels
from speedprof.mitigations.dali.policies import KNOWN, Entry, Policy, space_of
from speedprof.mitigations.dali.stage import RefusedError, Stage
from speedprof.mitigations.dali.steps import Step

INTERPOLATIONS = {
    "nearest": "NN",
    "nearest-exact": "NN",
    "bilinear": "LINEAR",
    "bicubic": "CUBIC",
    "lanczos": "LANCZOS3",
}
WARPS = {"nearest": "NN", "nearest-exact": "NN", "bilinear": "LINEAR"}

# -- geometry


def _resize(transform: Any, stage: Stage) -> list[Step]:
    size = _ints(transform.size)
    if transform.max_size is not None and len(size) == 2:
        raise RefusedError("max_size goes with one length only")
    return [
        steps.Resize(
            size=size,
            most=transform.max_size,
            **_filter(transform, stage),
        )
    ]


def _random_resized_crop(transform: Any, stage: Stage) -> list[Step]:
    return [
        steps.RandomResizedCrop(
            size=_pair(transform.size),
            scale=_floats(transform.scale),
            ratio=_floats(transform.ratio),
            **_filter(transform, stage),
        )
    ]


def _center_crop(transform: Any, _stage: Stage) -> list[Step]:
    return [steps.CenterCrop(_pair(transform.size))]


def _random_crop(transform: Any, stage: Stage) -> list[Step]:
    if transform.pad_if_needed:
        raise RefusedError("pad_if_needed")
    padding = (0, 0, 0, 0) if transform.padding is None else _padding(transform)
    return [steps.RandomCrop(_pair(transform.size), padding, _fill(transform, stage))]


def _pad(transform: Any, stage: Stage) -> list[Step]:
    return [steps.Pad(_padding(transform), _fill(transform, stage))]


def _padding(transform: Any) -> tuple[int, int, int, int]:
    """Return what is added at the left, the top, the right and the bottom."""
    if transform.padding_mode != "constant":
        raise RefusedError(f"padding_mode={transform.padding_mode}")
    given = _ints(transform.padding)
    left, top, right, bottom = {1: given * 4, 2: given * 2, 4: given}[len(given)]
    return left, top, right, bottom


def _horizontal(transform: Any, _stage: Stage) -> list[Step]:
    return [steps.RandomFlip(float(transform.p), horizontal=True)]


def _vertical(transform: Any, _stage: Stage) -> list[Step]:
    return [steps.RandomFlip(float(transform.p), horizontal=False)]


def _rotation(transform: Any, stage: Stage) -> list[Step]:
    if transform.expand:
        raise RefusedError("expand=True gives images of several sizes")
    low, high = _floats(transform.degrees)
    return [_affine_step(transform, stage, degrees=(-high, -low))]


def _affine(transform: Any, stage: Stage) -> list[Step]:
    given = {
        name: None if getattr(transform, name) is None else _floats(getattr(transform, name))
        for name in ("translate", "scale", "shear")
    }
    return [_affine_step(transform, stage, degrees=_floats(transform.degrees), **given)]


def _affine_step(transform: Any, stage: Stage, **given: Any) -> Step:
    center = None if transform.center is None else _floats(transform.center)
    ranges = {"translate": None, "scale": None, "shear": None} | given
    return steps.RandomAffine(
        center=center, interpolation=_warping(transform), fill=_fill(transform, stage), **ranges
    )


def _blur(transform: Any, _stage: Stage) -> list[Step]:
    kernel = _pair(transform.kernel_size)
    return [steps.GaussianBlur(kernel, _floats(transform.sigma))]


def _erasing(transform: Any, stage: Stage) -> list[Step]:
    if stage.kind == "PIL":
        raise RefusedError("it takes tensors, and these are PIL images")
    value = transform.value
    if value is None or isinstance(value, str):
        raise RefusedError("noise in place of what is erased")
    values = _floats(value) if isinstance(value, (list, tuple)) else (float(value),)
    if stage.kind == "bytes":
        raise RefusedError("it comes before the conversion to floats")
    scale, ratio = _floats(transform.scale), _floats(transform.ratio)
    return [steps.RandomErasing(float(transform.p), scale, ratio, values)]


# -- colours


def _jitter(transform: Any, stage: Stage) -> list[Step]:
    stage.need_colour()
    names = ("brightness", "contrast", "saturation", "hue")
    ranges = [getattr(transform, name) for name in names]
    kept = [None if one is None else _floats(one) for one in ranges]
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
    interpolation = _warping(transform)
    return Policy(space, interpolation=interpolation, fill=_fill(transform, stage), **how)


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
    mean, std = _floats(transform.mean), _floats(transform.std)
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
        size=_ints(transform.resize_size),
        most=None,
        **_filter(transform, Stage()),
    )
    crop = steps.CenterCrop(_pair(transform.crop_size))
    normalise = steps.Normalize(_floats(transform.mean), _floats(transform.std))
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


# -- values of transforms


def _ints(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(int(one) for one in values)


def _pair(value: Any) -> tuple[int, int]:
    values = _ints(value)
    return (values[0], values[-1])


def _floats(value: Any) -> Any:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(float(one) for one in values)


def _filter(transform: Any, stage: Stage) -> dict[str, Any]:
    """Return how pixels are interpolated; PIL's filter widens where an image shrinks."""
    named = _named(transform.interpolation)
    antialias = stage.kind == "PIL" or bool(getattr(transform, "antialias", True))
    if named not in INTERPOLATIONS:
        raise RefusedError(f"DALI has no {named} interpolation")
    if stage.kind != "PIL" and named == "nearest":
        raise RefusedError("of tensors, torch's nearest pixel is not DALI's (nearest-exact is)")
    if named == "bicubic" and not antialias:
        raise RefusedError("without antialias torch's bicubic filter is not DALI's")
    return {"interpolation": INTERPOLATIONS[named], "antialias": antialias}


def _warping(transform: Any) -> str:
    named = _named(transform.interpolation)
    if named not in WARPS:
        raise RefusedError(f"warp_affine has no {named} interpolation")
    return WARPS[named]


def _named(interpolation: Any) -> str:
    return str(getattr(interpolation, "value", interpolation))


def _fill(transform: Any, _stage: Stage) -> float:
    fill = transform.fill
    if isinstance(fill, dict):
        raise RefusedError("a fill for each kind of input")
    values = [0.0] if fill is None else list(_floats(fill))
    if len(set(values)) != 1:
        raise RefusedError("a fill of several colours")
    return float(values[0])
