"""Data sets whose transform cannot be taken apart from them stay as they are, and are named."""

from __future__ import annotations

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import numpy as np  # noqa: E402
from dali_cases import applied  # noqa: E402
from dali_sets import FLIPPED, PLAIN, Listed, Vision  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision.datasets import FakeData  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402


class Twice(Listed):
    def __getitem__(self, index: int) -> Any:
        image = self.image(index)
        return self.transform(image), self.transform(image)


class Doubled(Listed):
    def __getitem__(self, index: int) -> Any:
        return self.transform(self.image(index)) * 2, 0


class Wrapped(Listed):
    def __getitem__(self, index: int) -> Any:
        made = self.transform(self.image(index))
        return made.unsqueeze(0) if isinstance(made, torch.Tensor) else str(made)


class Drawing(Listed):
    def __getitem__(self, index: int) -> Any:
        return self.transform(self.image(random.randrange(len(self.paths)))), 0


class Keeping(Listed):
    def __init__(self, paths: list[str]) -> None:
        super().__init__(paths)
        self.kept: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        if index not in self.kept:
            self.kept[index] = self.transform(self.image(index))
        return self.kept[index], index


class OwnGenerator(Listed):
    def __init__(self, paths: list[str]) -> None:
        super().__init__(paths)
        self.random = np.random.default_rng(3)


class ManyAtOnce(Listed):
    def __getitems__(self, indices: list[int]) -> Any:
        return [self[index] for index in indices]


class Two(Listed):
    def __init__(self, paths: list[str]) -> None:
        super().__init__(paths)
        self.other = FLIPPED


class Arrays(Listed):
    def image(self, index: int) -> Any:
        return np.asarray(super().image(index))


STRANGE = {
    Twice: "called 2 times for one sample",
    Doubled: "raises TypeError",
    Wrapped: "changed before it is a sample",
    Drawing: "draws random numbers",
    Keeping: "keeps samples",
    OwnGenerator: "a generator of its own",
    ManyAtOnce: "several samples in one call",
    Two: "several transforms (transform, other)",
    Arrays: "given ndarray",
}


@pytest.mark.parametrize("kind", STRANGE, ids=lambda kind: kind.__name__)
def test_what_cannot_be_taken_apart_stays_the_scripts_and_is_named(
    kind: Any, paths: list[str], process: Process
) -> None:
    one = applied(process)
    state = random.getstate()
    data = kind(paths)
    iterator = iter(DataLoader(data, 4, shuffle=True))
    assert type(iterator).__name__ == "_SingleProcessDataLoaderIter"
    assert one.effects == 0
    assert STRANGE[kind] in one.notes[0]
    assert random.getstate() == state
    if kind is Keeping:
        assert all(isinstance(kept, torch.Tensor) for kept in data.kept.values())


def test_joint_transforms_stay_the_scripts(paths: list[str], process: Process) -> None:
    from torchvision.transforms import v2

    one = applied(process)
    chain = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip()])
    data = Vision(paths, transforms=chain)
    assert type(iter(DataLoader(data, 4))).__name__ == "_SingleProcessDataLoaderIter"
    assert "image and target together" in one.notes[0]


def test_a_set_that_seeds_and_restores_the_generator_stays_the_scripts(process: Process) -> None:
    one = applied(process)
    list(DataLoader(FakeData(20, (3, 80, 80), 4, PLAIN), 4, shuffle=True))
    assert one.effects == 0
    assert "draws random numbers" in one.notes[0]


def test_with_workers_the_loader_stays_the_scripts(paths: list[str], process: Process) -> None:
    one = applied(process)
    loader = DataLoader(Listed(paths), 6, shuffle=True, num_workers=1)
    assert sum(len(labels) for _images, labels in loader) == len(paths)
    assert one.effects == 0
    assert "its workers do the rest as cheaply" in one.notes[0]


def test_images_that_would_fill_the_memory_as_pixels_are_left_to_the_script(
    process: Process,
) -> None:
    class Huge(Listed):
        def image(self, index: int) -> Any:
            return Image.new("RGB", (6000, 4000))

    one = applied(process)
    loader = DataLoader(Huge(["one"] * 20), 20, shuffle=True)
    assert type(iter(loader)).__name__ == "_SingleProcessDataLoaderIter"
    assert "as pixels would take 2.7 GiB at a time" in one.notes[0]
