"""What torchvision's transforms were given, in the words of DALI's operators."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.dali.stage import RefusedError, Stage

INTERPOLATIONS = {
    "nearest": "NN",
    "nearest-exact": "NN",
    "bilinear": "LINEAR",
    "bicubic": "CUBIC",
    "lanczos": "LANCZOS3",
}
WARPS = {"nearest": "NN", "nearest-exact": "NN", "bilinear": "LINEAR"}


def ints(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(int(one) for one in values)


def pair(value: Any) -> tuple[int, int]:
    values = ints(value)
    return (values[0], values[-1])


def floats(value: Any) -> Any:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(float(one) for one in values)


def filtering(transform: Any, stage: Stage) -> dict[str, Any]:
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


def warping(transform: Any) -> str:
    named = _named(transform.interpolation)
    if named not in WARPS:
        raise RefusedError(f"warp_affine has no {named} interpolation")
    return WARPS[named]


def _named(interpolation: Any) -> str:
    return str(getattr(interpolation, "value", interpolation))


def fill_of(transform: Any, _stage: Stage) -> float:
    fill = transform.fill
    if isinstance(fill, dict):
        raise RefusedError("a fill for each kind of input")
    values = [0.0] if fill is None else list(floats(fill))
    if len(set(values)) != 1:
        raise RefusedError("a fill of several colours")
    return float(values[0])


def padding_of(transform: Any) -> tuple[int, int, int, int]:
    """Return what is added at the left, the top, the right and the bottom."""
    if transform.padding_mode != "constant":
        raise RefusedError(f"padding_mode={transform.padding_mode}")
    given = ints(transform.padding)
    left, top, right, bottom = {1: given * 4, 2: given * 2, 4: given}[len(given)]
    return left, top, right, bottom
