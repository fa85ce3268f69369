"""Data sets of image files: where sample i lies, and which label it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.dali.translation import RefusedError


@dataclass(frozen=True)
class Files:
    """What stands behind the loader's data set: a torchvision folder, perhaps part of it."""

    folder: Any  # torchvision's DatasetFolder or ImageFolder
    subsets: tuple[Any, ...]  # torch's Subset around it, outermost first

    def sample(self, index: Any) -> tuple[str, Any]:
        """Return path and label of what the loader calls sample `index`."""
        for subset in self.subsets:
            index = subset.indices[index]
        path, label = self.folder.samples[index]
        return str(path), label

    def label(self, label: Any) -> Any:
        change = self.folder.target_transform
        return label if change is None else change(label)


def files(dataset: Any) -> Files:
    """Return the files of a loader's data set; raise RefusedError where it is of another kind."""
    from torch.utils.data import Subset

    subsets = []
    while type(dataset) is Subset:
        subsets.append(dataset)
        dataset = dataset.dataset
    kind = type(dataset)
    if not (kind.__module__ == "torchvision.datasets.folder" or _inherits_reading(kind)):
        raise RefusedError(f"{kind.__name__} is no torchvision ImageFolder or DatasetFolder")
    _check_loader(dataset)
    return Files(dataset, tuple(subsets))


def _inherits_reading(kind: Any) -> bool:
    """Tell whether a class of the user's own reads its samples as torchvision's folder does."""
    from torchvision.datasets import DatasetFolder

    if not issubclass(kind, DatasetFolder):
        return False
    return kind.__getitem__ is DatasetFolder.__getitem__ and not hasattr(kind, "__getitems__")


def _check_loader(dataset: Any) -> None:
    import torchvision
    from torchvision.datasets.folder import default_loader, pil_loader

    name = getattr(dataset.loader, "__name__", type(dataset.loader).__name__)
    if dataset.loader not in (default_loader, pil_loader):
        raise RefusedError(f"its images are opened by {name}, not by torchvision's own loader")
    if torchvision.get_image_backend() != "PIL":
        raise RefusedError(
            f"images are opened by {torchvision.get_image_backend()}, not by Pillow"
        )
