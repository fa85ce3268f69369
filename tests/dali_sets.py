"""Data sets that open their samples themselves, as scripts have them."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.datasets import VisionDataset

PLAIN = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
FLIPPED = transforms.Compose([transforms.RandomHorizontalFlip(), *PLAIN.transforms])


class Listed(Dataset):  # type: ignore[misc]
    """Files and labels in lists, as scripts have them."""

    def __init__(self, paths: list[str], transform: Any = PLAIN) -> None:
        self.paths, self.transform = paths, transform
        self.labels = [number * 10 for number in range(len(paths))]

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Any:
        return Image.open(self.paths[index]).convert("RGB")

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.image(index)), self.labels[index]


class Vision(VisionDataset):  # type: ignore[misc]
    """Its transforms are called together, as in torchvision's own data sets."""

    def __init__(self, paths: list[str], **given: Any) -> None:
        super().__init__(None, **given)
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.transforms(Image.open(self.paths[index]).convert("RGB"), index)
