"""Data sets whose samples are worth keeping or not, and what a training sees of them."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import in_force
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from speedprof.mitigations.applied.process import Applied, Process

SIZE, LENGTH, BATCH, PASSES = (96, 72), 12, 4, 3
SLOWLY = 0.004  # seconds that a sample takes, where it is not decoded
NORMAL = ([0.4, 0.5, 0.6], [0.2, 0.3, 0.2])
CHAINS = {
    "random at the end": transforms.Compose(
        [
            transforms.Resize(48),
            transforms.CenterCrop(40),
            transforms.ToTensor(),
            transforms.Normalize(*NORMAL),
            transforms.RandomErasing(p=0.7),
        ]
    ),
    "random at first": transforms.Compose(
        [
            transforms.RandomResizedCrop(32),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    ),
    "nothing random": transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()]),
    "version 2": v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(48, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomCrop(32),
            v2.ColorJitter(0.4, 0.4),
            v2.Normalize(*NORMAL),
        ]
    ),
    "one inside another": transforms.Compose(
        [
            transforms.Compose([transforms.Grayscale(3), transforms.Resize(40)]),
            transforms.RandomCrop(32),
            transforms.PILToTensor(),
        ]
    ),
    "a function": transforms.Compose(
        [transforms.Resize((32, 32)), lambda image: image.rotate(random.random()), np.array]
    ),
    "no Compose": v2.RandomResizedCrop(24),
}
applied = partial(in_force.applied, name="cache-samples")


def drawn_in(folder: Path) -> Path:
    """Fill a folder with JPEG images in two classes."""
    drawn = np.random.default_rng(0)
    for place in range(LENGTH):
        path = folder / f"class{place % 2}" / f"{place:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = drawn.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((640, 480)).save(path)
    return folder


def ended(process: Process, one: Applied) -> Applied:
    process.finish()
    return one


def flat(value: Any) -> Any:
    """Return what two batches are compared by: types, shapes, layouts and bytes."""
    if isinstance(value, torch.Tensor):
        held = value.as_subclass(torch.Tensor)
        return type(value), held.dtype, held.shape, held.stride(), held.tolist()
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.strides if value.size else None, value.tobytes()
    if isinstance(value, Image.Image):
        return type(value), value.mode, value.size, value.info, value.tobytes()
    if isinstance(value, (list, tuple)):
        return type(value), [flat(one) for one in value]
    if isinstance(value, dict):
        return {key: flat(one) for key, one in value.items()}
    return type(value), value


def seen(loader: Any, passes: int = PASSES) -> list[Any]:
    """Return what a training sees in several passes, and draws itself between the batches."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    return [
        (flat(batch), torch.rand(1).item(), random.random(), np.random.rand())
        for _ in range(passes)
        for batch in loader
    ]


def loader(dataset: Any, **keywords: Any) -> Any:
    return DataLoader(dataset, BATCH, **{"shuffle": True, "collate_fn": list, **keywords})


class Slow(Dataset[Any]):
    """Samples without a transform, each of which takes its time."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> Any:
        time.sleep(SLOWLY)
        return self.make(index)


class Views(Dataset[Any]):
    """A data set of a user's own: two random views of an image, and a label that is changed."""

    def __init__(self, root: Path, transform: Any, target_transform: Any = None) -> None:
        self.paths = sorted(root.glob("*/*.jpg"))
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.paths[index]) as opened:
            image = opened.convert("RGB")
        label = index % 2
        if self.target_transform is not None:
            label = self.target_transform(label)
        return {"views": [self.transform(image), self.transform(image)], "label": label}


def unkept(process: Process, make: Any, *, passes: int = PASSES) -> str:
    """Check that batches stay bit-equal, and return why samples were not kept."""
    bare = seen(loader(make()), passes)
    one = applied(process)
    assert seen(loader(make()), passes) == bare
    return "; ".join(ended(process, one).notes)
