"""Image folders, and batches of them by DALI without a loader around."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import in_force
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from speedprof.mitigations.dali.batches import batch_of, read_files
from speedprof.mitigations.dali.pipeline import Images, Recipe, arguments
from speedprof.mitigations.dali.steps import Arguments
from speedprof.mitigations.dali.translation import translate

SIZES = ((300, 200), (200, 300), (256, 256), (333, 275))  # width, height
CLASSES = ("cat", "dog", "emu")
applied = partial(in_force.applied, name="dali-loading")


def picture(number: int, size: tuple[int, int]) -> Image.Image:
    """Return something between a photograph and noise: smooth colours, edges and grain."""
    random = np.random.default_rng(number)
    clouds = Image.fromarray(random.integers(0, 255, (6, 7, 3), dtype=np.uint8))
    smooth = np.asarray(clouds.resize(size, Image.Resampling.BICUBIC)).astype(np.float64)
    smooth[size[1] // 3 : size[1] // 2, size[0] // 4 : size[0] // 2] = (200, 40, 90)
    grain = random.normal(0, 6, (size[1], size[0], 1))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def folder(root: Path, *, each: int = 4, kind: str = "png") -> Path:
    """Write one sub-folder of images a class."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(each):
            size = SIZES[(number + label) % len(SIZES)]
            path = root / name / f"{number}.{kind}"
            picture(10 * label + number, size).save(path, quality=95)
    return root


def paths_in(root: Path) -> list[str]:
    return [str(path) for path in sorted(root.rglob("*.*"))]


def drawn(transform: Any, paths: list[str], seed: int = 0) -> Arguments:
    """Return the parameters of a batch, by the number of the step and their name."""
    chain = translate(transform).chain
    assert chain is not None
    return arguments(chain, sizes_of(paths), seed)


def sizes_of(paths: list[str]) -> list[tuple[int, int]]:
    return read_files(batch_of(paths, 0, 0)).sizes


def by_dali(transform: Any, paths: list[str], seed: int = 0) -> Tensor:
    """Return the batch that DALI makes of these files."""
    translation = translate(transform)
    assert translation.chain is not None, [str(row) for row in translation.rows]
    read = read_files(batch_of(paths, 0, 0))
    assert len(read.good) == len(paths)
    recipe = Recipe(translation.chain, None, 1, len(paths))
    files = [read.input(place) for place in read.good]
    made = Images(recipe).make(files, arguments(translation.chain, read.sizes, seed))
    assert isinstance(made, torch.Tensor)
    return made


def by_torchvision(transform: Any, paths: list[str]) -> Tensor:
    return torch.stack([transform(opened(path)) for path in paths])


def opened(path: str) -> Image.Image:
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


def levels(tensor: Tensor) -> Tensor:
    """Return images as grey levels, 0 to 255, whatever they hold."""
    return tensor.double() if tensor.dtype == torch.uint8 else tensor.double() * 255.0


def apart(one: Tensor, other: Tensor) -> Tensor:
    """Return the differences in levels, largest last."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    return (levels(one) - levels(other)).abs().flatten().sort().values
