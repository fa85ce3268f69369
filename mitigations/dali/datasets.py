"""Data sets of image files: where sample i lies, and which label it has."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.dali.batches import Batch, Read, read_files
from speedprof.mitigations.dali.pipeline import FILES
from speedprof.mitigations.dali.stage import RefusedError

LOOKED_AT = 16  # files, before any is opened by DALI

# Data sets of torchvision's that open `(path, label)` by their loader, as its folders do: by the
# attributes with the paths and the labels, or with both.
LISTS: dict[str, tuple[str, ...]] = {
    "DTD": ("_image_files", "_labels"),
    "FGVCAircraft": ("_image_files", "_labels"),
    "Flowers102": ("_image_files", "_labels"),
    "Food101": ("_image_files", "_labels"),
    "SUN397": ("_image_files", "_labels"),
    "Imagenette": ("_samples",),
    "RenderedSST2": ("_samples",),
    "StanfordCars": ("_samples",),
}


def located(dataset: Any, index: Any) -> tuple[Any, Any]:
    """Return the data set that makes sample `index`, and its number there."""
    from torch.utils.data import ConcatDataset, Subset

    while True:
        if type(dataset) is Subset:
            dataset, index = dataset.dataset, dataset.indices[index]
        elif type(dataset) is ConcatDataset:
            index = index + len(dataset) if index < 0 else index
            which = bisect_right(dataset.cumulative_sizes, index)
            before = dataset.cumulative_sizes[which - 1] if which else 0
            dataset, index = dataset.datasets[which], index - before
        else:
            return dataset, index


def leaves(dataset: Any) -> list[Any]:
    """Return the data sets that make the samples, without the parts and sums around them."""
    from torch.utils.data import ConcatDataset, Subset

    if type(dataset) is Subset:
        return leaves(dataset.dataset)
    if type(dataset) is ConcatDataset:
        found = [leaf for inner in dataset.datasets for leaf in leaves(inner)]
        return list({id(leaf): leaf for leaf in found}.values())
    return [dataset]


@dataclass(frozen=True)
class Files:
    """A loader's data set of files that torchvision's own loader opens."""

    dataset: Any
    transforms: tuple[Any, ...]  # of its leaves
    channels = 3
    source = FILES
    told = ""
    read: Callable[..., Read] = read_files

    def ask(self, index: Any) -> tuple[str, Any]:
        """Return the path of a sample, and what is to be known of it when its image is made."""
        leaf, at = located(self.dataset, index)
        path, label = _entry(leaf, at)
        return str(path), (leaf, label)

    def fetch(self, own: Any, indices: list[Any]) -> Any:
        return own.fetch(indices)

    def sample(self, index: Any) -> Any:
        return self.dataset[index]

    def image(self, sample: Any) -> Any:
        return sample[0]

    def collate(self, images: Any, asked: list[Any], _batch: Batch, own: dict[int, Any]) -> Any:
        """Put the batch together; `own` holds samples that the data set made, by their place."""
        from torch.utils.data import default_collate

        labels = [
            own[place][1] if place in own else _label(*leaf_and_label)
            for place, leaf_and_label in enumerate(asked)
        ]
        return [images, default_collate(labels)]


def files(dataset: Any) -> Files:
    """Return the files of a loader's data set; raise RefusedError where it is of another kind."""
    found = leaves(dataset)
    for leaf in found:
        kind = type(leaf)
        if not (_listed(leaf) or _folder(kind)):
            raise RefusedError(f"{kind.__name__} is no torchvision ImageFolder or DatasetFolder")
        _check_loader(leaf)
    return Files(dataset, tuple(leaf.transform for leaf in found))


def mostly_odd(data: Files) -> str | None:
    """Say why DALI would leave most of the files to the data set; None where it would not.

    The data set would open them one after the other, in the training's own thread.
    """
    length = len(data.dataset)
    try:
        paths = [data.ask(at)[0] for at in range(0, length, max(length // LOOKED_AT, 1))]
    except (IndexError, KeyError, TypeError, ValueError):
        return None  # raised once more, at the batch that holds it
    batch = Batch(paths, 0, read_files)
    read_files(batch)
    if len(batch.odd) <= len(paths) / 2:
        return None
    return Counter(batch.odd.values()).most_common(1)[0][0]


def _entry(leaf: Any, at: Any) -> tuple[Any, Any]:
    if not _listed(leaf):
        path, label = leaf.samples[at]
        return path, label
    found = tuple(getattr(leaf, name)[at] for name in LISTS[type(leaf).__name__])
    path, label = found if len(found) == 2 else found[0]
    return path, label


def _label(leaf: Any, label: Any) -> Any:
    change = leaf.target_transform
    return label if not change else change(label)


def _listed(leaf: Any) -> bool:
    kind = type(leaf)
    if not kind.__module__.startswith("torchvision.datasets."):
        return False
    return all(hasattr(leaf, name) for name in ("loader", *LISTS.get(kind.__name__, ("?",))))


def _folder(kind: Any) -> bool:
    """Tell whether a class reads its samples as torchvision's folder does."""
    from torchvision.datasets import DatasetFolder

    if not issubclass(kind, DatasetFolder):
        return False
    return kind.__getitem__ is DatasetFolder.__getitem__ and not hasattr(kind, "__getitems__")


def _check_loader(dataset: Any) -> None:
    import torchvision
    from torchvision.datasets.folder import DatasetFolder, default_loader, pil_loader

    if any(one.__module__ != DatasetFolder.__module__ for one in (default_loader, pil_loader)):
        raise RefusedError("torchvision's own loader of images is another's here")
    name = getattr(dataset.loader, "__name__", type(dataset.loader).__name__)
    if dataset.loader not in (default_loader, pil_loader):
        raise RefusedError(f"its images are opened by {name}, not by torchvision's own loader")
    if torchvision.get_image_backend() != "PIL":
        raise RefusedError(
            f"images are opened by {torchvision.get_image_backend()}, not by Pillow"
        )
