"""Large JPEGs decoded at a half, a quarter or an eighth, where what is wanted is smaller still.

The decoder leaves out frequencies that the resize would average away. At least GAP pixels remain
for each pixel that is wanted, in either direction, as many as Pillow's own `thumbnail` keeps
(`reducing_gap`). DALI's decoder on the CPU has no such mode, so Pillow decodes (its decoder frees
Python's lock) and DALI does the rest.
"""

from __future__ import annotations

import io
from typing import Any

from speedprof.mitigations.dali.headers import JPEG
from speedprof.mitigations.dali.steps import Arguments, RandomResizedCrop, Resize, Step

GAP = 2.0
FACTORS = (8, 4, 2)  # that the decoder has, largest first
FILTERS = ("LINEAR", "CUBIC", "LANCZOS3")
FIRST = "0_"  # arguments of the first step
SHRINKING = "large JPEGs shrunk while they are decoded (±9)"
FAILURES = (OSError, SyntaxError, ValueError)  # of Pillow


def possible(chain: tuple[Step, ...]) -> bool:
    """Tell whether the first step makes images smaller by a filter that widens with that."""
    first = chain[0] if chain else None
    if not isinstance(first, (RandomResizedCrop, Resize)):
        return False
    return first.interpolation in FILTERS and first.antialias


def factors(
    chain: tuple[Step, ...], files: list[bytes], sizes: list[tuple[int, int]], given: Arguments
) -> list[int]:
    """Return by how much each file may be shrunk while it is decoded; 1: not at all.

    The chain is one that makes that `possible`.
    """
    import torch

    first: Any = chain[0]
    region = given.get(f"{FIRST}shape", torch.tensor(sizes))
    target = given.get(f"{FIRST}size", torch.tensor(first.size))
    spare = (region / target).amin(dim=1) / GAP
    return [
        next((k for k in FACTORS if more >= k), 1) if bytes(data[:3]) == JPEG else 1
        for data, more in zip(files, spare.tolist(), strict=True)
    ]


def opened(data: Any, factor: int) -> Any:
    """Return the pixels of a JPEG, shrunk while decoding; raises what Pillow raises."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (image.width // factor, image.height // factor))
        return np.asarray(image.convert("RGB"))


def within(given: Arguments, sizes: Any, found: Any) -> Arguments:
    """Return the arguments of images that have come to `found` from `sizes` (height, width)."""
    if f"{FIRST}shape" not in given:
        return given
    start, shape = given[f"{FIRST}start"], given[f"{FIRST}shape"]
    scale = found / sizes
    others = {
        name: value
        for name, value in given.items()
        if name not in (f"{FIRST}start", f"{FIRST}shape")
    }
    return {
        f"{FIRST}roi_start": (start * scale).float(),
        f"{FIRST}roi_end": ((start + shape) * scale).float(),
        **others,
    }
