"""Chains as published trainings have them: each translates whole, and its images are alike."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import by_dali, opened, picture  # noqa: E402
from torchvision.transforms import transforms as v1  # noqa: E402
from torchvision.transforms import v2  # noqa: E402
from torchvision.transforms.autoaugment import (  # noqa: E402
    AutoAugment,
    AutoAugmentPolicy,
    TrivialAugmentWide,
)

from speedprof.mitigations.dali.translation import translate  # noqa: E402

COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZE, MANY = 48, 400
KOLMOGOROV = 1.95  # of the two-sample test: p = 0.001; the seeds are fixed
BYTES = v2.ToDtype(torch.uint8, scale=True)
FLOATS = v2.ToDtype(torch.float32, scale=True)
RECIPES: dict[str, Any] = {
    "ImageNet, PyTorch's examples": v1.Compose(
        [v1.RandomResizedCrop(SIZE), v1.RandomHorizontalFlip(), v1.ToTensor(),
         v1.Normalize(*COLOURS)]
    ),
    "torchvision's references": v1.Compose(
        [v1.RandomResizedCrop(SIZE), v1.RandomHorizontalFlip(), TrivialAugmentWide(),
         v1.PILToTensor(), v1.ConvertImageDtype(torch.float), v1.Normalize(*COLOURS),
         v1.RandomErasing(0.1)]
    ),
    "torchvision's references, v2": v2.Compose(
        [v2.ToImage(), v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip(),
         v2.RandAugment(magnitude=9), BYTES, FLOATS, v2.Normalize(*COLOURS), v2.ToPureTensor()]
    ),
    "SimCLR": v1.Compose(
        [v1.RandomResizedCrop(SIZE, scale=(0.2, 1.0)),
         v1.RandomApply([v1.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
         v1.RandomGrayscale(p=0.2), v1.RandomApply([v1.GaussianBlur(5, (0.1, 2.0))], p=0.5),
         v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(*COLOURS)]
    ),
    "BYOL's second view": v2.Compose(
        [v2.ToImage(), v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(),
         v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8), v2.RandomGrayscale(0.2),
         v2.RandomApply([v2.GaussianBlur(5)], p=0.1), v2.RandomSolarize(128, p=0.2), FLOATS]
    ),
    "DeiT III's three": v1.Compose(
        [v1.Resize(SIZE + 8), v1.RandomCrop(SIZE, padding=4), v1.RandomHorizontalFlip(),
         v1.RandomChoice([v1.Grayscale(3), v1.RandomSolarize(128, 1.0), v1.GaussianBlur(5)]),
         v1.ColorJitter(0.3, 0.3, 0.3), v1.ToTensor(), v1.Normalize(*COLOURS)]
    ),
    "CIFAR's": v1.Compose(
        [v1.CenterCrop(SIZE), v1.RandomCrop(SIZE, padding=4), v1.RandomHorizontalFlip(),
         AutoAugment(AutoAugmentPolicy.CIFAR10),
         v1.ToTensor(), v1.Normalize(*COLOURS)]
    ),
}  # fmt: skip


def alike(one: Any, other: Any) -> bool:
    """Tell whether two samples are of one distribution (Kolmogorov and Smirnov)."""
    one, other = one.double().sort().values, other.double().sort().values
    at = torch.cat([one, other])
    shares = [torch.searchsorted(x, at, right=True).double() / len(x) for x in (one, other)]
    distance = float((shares[0] - shares[1]).abs().max())
    return distance < KOLMOGOROV * math.sqrt((len(one) + len(other)) / (len(one) * len(other)))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_translated_whole_and_its_images_are_distributed_alike(
    name: str, tmp_path: Path
) -> None:
    chain = RECIPES[name]
    table = translate(chain)
    assert table.chain is not None, [str(row) for row in table.rows]
    path = str(tmp_path / "one.png")
    picture(3, (90, 80)).save(path)
    torch.manual_seed(1)
    random.seed(1)
    theirs = torch.stack([torch.as_tensor(chain(opened(path))) for _ in range(MANY)])
    ours = by_dali(chain, [path] * MANY, seed=2)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    for measure in (torch.mean, torch.std):
        for channel in range(3):
            found = [
                torch.stack([measure(image[channel]) for image in batch])
                for batch in (ours, theirs)
            ]
            assert alike(*found), (measure.__name__, channel)
