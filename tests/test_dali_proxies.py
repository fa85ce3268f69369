"""Data sets that open their samples themselves: their own code runs, DALI does the transform."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import numpy as np  # noqa: E402
from dali_cases import applied, picture  # noqa: E402
from dali_sets import FLIPPED, PLAIN, Listed, Vision  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.dali import nests  # noqa: E402
from speedprof.mitigations.dali.plain import holds_values_only  # noqa: E402


class InDicts(Listed):
    """Samples are dicts, and the image lies deep in them."""

    def __getitem__(self, index: int) -> Any:
        image = self.transform(self.image(index))
        return {"of": {"image": image, "name": self.paths[index]}, "label": self.labels[index]}


class Pair(NamedTuple):
    image: Any
    label: Any


class InPairs(Listed):
    def __getitem__(self, index: int) -> Any:
        return Pair(*super().__getitem__(index))


class Alone(Listed):
    def __getitem__(self, index: int) -> Any:
        return self.transform(self.image(index))


class Archive(Listed):
    """All files in one, opened once: threads must not read it at the same time."""

    def __init__(self, paths: list[str], archive: Path) -> None:
        super().__init__(paths)
        self.places = []
        with archive.open("wb") as file:
            for path in paths:
                data = Path(path).read_bytes()
                self.places.append((file.tell(), len(data)))
                file.write(data)
        self.file = archive.open("rb")

    def image(self, index: int) -> Any:
        import io

        start, length = self.places[index]
        self.file.seek(start)
        return Image.open(io.BytesIO(self.file.read(length))).convert("RGB")


def flattened(batch: Any) -> list[Any]:
    if isinstance(batch, dict):
        return [(key, leaf) for key, value in batch.items() for leaf in flattened(value)]
    if isinstance(batch, (list, tuple)):
        return [type(batch).__name__, *(leaf for value in batch for leaf in flattened(value))]
    return [batch]


def alike(one: Any, other: Any) -> bool:
    """Tell whether two batches have the same structure, types and values."""
    a, b = flattened(one), flattened(other)
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return one[0] == other[0] and same(one[1], other[1])
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.allclose(one, other, atol=1e-6, rtol=0)
    return type(one) is type(other) and bool(one == other)


def passes(data: Any, count: int = 2) -> list[list[Any]]:
    torch.manual_seed(5)
    loader = DataLoader(data, 4, shuffle=True)
    return [list(loader) for _ in range(count)]


KINDS: dict[str, Any] = {
    "tuples": lambda paths, _folder: Listed(paths),
    "dicts": lambda paths, _folder: InDicts(paths),
    "named": lambda paths, _folder: InPairs(paths),
    "alone": lambda paths, _folder: Alone(paths),
    "torchvision's": lambda paths, _folder: Vision(
        paths, transform=PLAIN, target_transform=lambda index: index * 2
    ),
    "an open file": lambda paths, folder: Archive(paths, folder / "all.bin"),
    "part": lambda paths, _folder: Subset(Listed(paths), [7, 3, 5, 1, 11]),
    "sum": lambda paths, _folder: ConcatDataset([Listed(paths[:5]), Listed(paths[5:])]),
    "grey": lambda paths, _folder: Grey(paths),
}


class Grey(Listed):
    def image(self, index: int) -> Any:
        return Image.open(self.paths[index]).convert("L")


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_scripts(
    kind: str, paths: list[str], tmp_path: Path, process: Process
) -> None:
    data = KINDS[kind](paths, tmp_path)
    bare = passes(data)
    one = applied(process)
    found = passes(data)
    if kind == "an open file":
        data.file.close()
    assert one.effects == 1, one.notes
    assert [len(batches) for batches in found] == [len(batches) for batches in bare]
    for mine, theirs in zip(found, bare, strict=True):
        assert all(alike(a, b) for a, b in zip(mine, theirs, strict=True))
    how = "one at a time" if kind == "an open file" else "several at a time"
    assert f"opened by the data set's own code, {how}" in one.notes[0]


def test_labels_and_images_belong_together(paths: list[str], process: Process) -> None:
    applied(process, validation=True)
    data = Listed(paths)
    for images, labels in DataLoader(data, 5):
        for image, label in zip(images, labels, strict=True):
            assert torch.allclose(image, data[int(label) // 10][0], atol=1e-6)


def test_the_data_set_itself_is_not_changed(paths: list[str], process: Process) -> None:
    data = Listed(paths, FLIPPED)
    before = dict(vars(data))
    applied(process)
    list(DataLoader(data, 4, shuffle=True))
    assert vars(data) == before
    assert isinstance(data[0][0], torch.Tensor)


def test_an_attribute_set_between_epochs_is_seen(paths: list[str], process: Process) -> None:
    class Shifted(Listed):
        shift = 0

        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            return image, label + self.shift

    applied(process)
    data = Shifted(paths)
    loader = DataLoader(data, 4, shuffle=True)
    for data.shift in (0, 1000):
        labels = sorted(int(label) for _images, many in loader for label in many)
        assert labels[0] == data.shift


def test_a_transform_of_another_name_is_found(paths: list[str], process: Process) -> None:
    class Named(Listed):
        def __init__(self, paths: list[str]) -> None:
            super().__init__(paths, None)
            self.augment = FLIPPED

        def __getitem__(self, index: int) -> Any:
            return self.augment(self.image(index)), index

    one = applied(process)
    assert len(list(DataLoader(Named(paths), 6, shuffle=True))) == 3
    assert one.effects == 1


def test_a_sample_that_fails_raises_its_own_error_at_its_batch(
    paths: list[str], process: Process
) -> None:
    class Failing(Listed):
        def image(self, index: int) -> Any:
            if index == 5:
                raise LookupError("no image for 5")
            return super().image(index)

    applied(process, validation=True)
    iterator = iter(DataLoader(Failing(paths[:12]), 4))
    next(iterator)
    with pytest.raises(LookupError, match="no image for 5"):
        next(iterator)
    assert len(next(iterator)[1]) == 4


def test_images_of_another_mode_are_the_data_sets(paths: list[str], process: Process) -> None:
    class Mixed(Listed):
        def __getitem__(self, index: int) -> Any:
            mode = "L" if index == 6 else "RGB"
            image = Image.open(self.paths[index]).convert(mode)
            made = self.transform(image)
            if isinstance(made, torch.Tensor):
                made = made.expand(3, -1, -1)
            return made, index

    bare = list(DataLoader(Mixed(paths), 4))
    one = applied(process, validation=True)
    found = list(DataLoader(Mixed(paths), 4))
    assert all(alike(a, b) for a, b in zip(found, bare, strict=True))
    assert any("an image of mode L" in note for note in one.notes)


def test_a_folder_that_is_opened_by_another_loader_is_opened_by_it(
    paths: list[str], process: Process
) -> None:
    def upside_down(path: str) -> Any:
        return Image.open(path).convert("RGB").rotate(180)

    root = str(Path(paths[0]).parent.parent)
    bare = passes(ImageFolder(root, PLAIN, loader=upside_down), 1)
    one = applied(process)
    found = passes(ImageFolder(root, PLAIN, loader=upside_down), 1)
    assert one.effects == 1
    assert all(alike(a, b) for a, b in zip(found[0], bare[0], strict=True))


def test_what_is_a_value_may_be_shared_and_what_is_not_may_not(tmp_path: Path) -> None:
    class Holding(Dataset):  # type: ignore[misc]
        def __init__(self, **held: Any) -> None:
            vars(self).update(held)

    values = {"a": [1, "b", Path("c")], "b": {"d": (None, 2.0)}, "c": np.ones(3)}
    inner = Holding(paths=["x"])
    assert holds_values_only(Holding(**values, d=torch.ones(2), e=PLAIN, f=inner))
    with (tmp_path / "file").open("w") as file:
        assert not holds_values_only(Holding(file=file))
        assert not holds_values_only(Holding(inner=Holding(files=[{"one": file}])))
    assert not holds_values_only(Holding(lock=threading.Lock()))


def test_nests_are_rebuilt_around_one_place() -> None:
    marker = object()
    nest = {"a": [1, (2, Pair(marker, 3))]}
    path = nests.find(nest, marker)
    assert path == ("a", 1, 1, 0)
    assert nests.at(nest, path) is marker
    assert nests.put(nest, path, "x") == {"a": [1, (2, Pair("x", 3))]}
    assert nest == {"a": [1, (2, Pair(marker, 3))]}
    assert nests.find([marker, marker], marker) is None
    assert nests.find([1], marker) is None


def test_pictures_drawn_on_the_spot_have_the_right_pixels(process: Process) -> None:
    class Made(Dataset):  # type: ignore[misc]
        transform = None

        def __init__(self) -> None:
            self.transform = PLAIN

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return self.transform(picture(index, (90, 70))), index

    bare = list(DataLoader(Made(), 3))
    applied(process, validation=True)
    assert all(alike(a, b) for a, b in zip(DataLoader(Made(), 3), bare, strict=True))
