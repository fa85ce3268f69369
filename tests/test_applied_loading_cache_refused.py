"""What is not kept, and why; what a data set raises stays its own."""

from __future__ import annotations

import random
from itertools import chain as joined
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")

import numpy as np  # noqa: E402
from cache_cases import (  # noqa: E402
    CHAINS,
    LENGTH,
    Slow,
    Views,
    applied,
    ended,
    loader,
    seen,
    unkept,
)
from PIL import Image  # noqa: E402
from torch.utils.data import IterableDataset, TensorDataset  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from speedprof.mitigations.applied import sample_shelf  # noqa: E402
from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.applied.sample_shelf import CHECKED  # noqa: E402


def test_samples_that_are_random_themselves_are_not_kept(process: Process) -> None:
    why = unkept(process, lambda: Slow(lambda index: torch.rand(3) + index))
    assert "samples of Slow are not kept: it draws random numbers outside its transforms" in why


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, lambda: torch.rand(1).item()], ids=["1", "2", "3"]
)
def test_draws_of_every_generator_are_seen(process: Process, draw: Any) -> None:
    why = unkept(process, lambda: Slow(lambda index: index + draw()))
    assert "draws random numbers" in why


def test_a_generator_of_its_own_keeps_a_data_set_out(process: Process) -> None:
    class Private(Slow):
        def __init__(self) -> None:
            self.drawn = np.random.default_rng(3)
            super().__init__(lambda index: index)

        def __getitem__(self, index: int) -> Any:
            return index + self.drawn.random()

    assert "it has a generator of its own (drawn)" in unkept(process, Private)


def test_a_generator_from_elsewhere_is_found_out(process: Process) -> None:
    def make() -> Any:
        drawn = iter(range(10**6))
        return Slow(lambda index: (index, next(drawn)))

    one = applied(process)
    seen(loader(make()))
    assert "a sample is another one each time" in "; ".join(ended(process, one).notes)
    assert one.effects == 0


def test_a_transformed_image_that_is_changed_afterwards_is_not_kept(
    process: Process, jpegs: Path
) -> None:
    class Scaled(Views):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)["views"][0] * 2

    chain = CHAINS["random at first"]
    assert "it changes what its transforms return" in unkept(process, lambda: Scaled(jpegs, chain))


def test_a_data_set_that_changes_is_given_up(process: Process) -> None:
    class Growing(Slow):
        def __init__(self) -> None:
            super().__init__(lambda index: index)
            self.epoch = 0

        def __getitem__(self, index: int) -> Any:
            self.epoch += 1
            return super().__getitem__(index)

    why = unkept(process, Growing)
    assert "its attribute 'epoch' changes while it is read" in why


def test_a_sample_that_becomes_another_one_is_found_out(process: Process) -> None:
    held = {"offset": 0}
    one = applied(process)
    dataset = Slow(lambda index: index + held["offset"])
    dataset.make.__dict__["note"] = "a function's own state is nowhere to be seen"
    passed = loader(dataset)
    for _ in range(2):
        list(passed)
    held["offset"] = 1000
    for _ in range(CHECKED // LENGTH + 1):
        list(passed)
    assert min(sample for batch in passed for sample in batch) == 1000
    assert "a sample is no longer what it was" in "; ".join(ended(process, one).notes)


def test_errors_of_the_data_set_stay_its_own(process: Process) -> None:
    def broken(index: int) -> Any:
        if index == 5:
            raise LookupError("sample 5 is damaged")
        return index

    applied(process)
    dataset = Slow(broken)
    for _ in range(2):
        with pytest.raises(LookupError, match=r"^sample 5 is damaged$"):
            list(loader(dataset, shuffle=False))


def test_errors_of_a_transform_stay_its_own(process: Process, jpegs: Path) -> None:
    calls = []

    def fails(image: Any) -> Any:
        calls.append(image)
        if len(calls) > 3 * LENGTH:
            raise OverflowError("too often")
        return torch.rand(2)

    applied(process)
    passed = loader(ImageFolder(str(jpegs), transforms.Compose([transforms.Resize(8), fails])))
    with pytest.raises(OverflowError, match="too often"):
        list(joined.from_iterable(passed for _ in range(9)))


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (TensorDataset(torch.arange(8.0)), "they lie in memory already"),
        (list(range(8)), "its class cannot be changed"),
        (type("Stream", (IterableDataset,), {"__iter__": lambda _: iter(range(8))})(), "iterable"),
    ],
)
def test_what_has_nothing_to_keep_is_said(process: Process, dataset: Any, why: str) -> None:
    one = applied(process)
    keywords = {"shuffle": None} if isinstance(dataset, IterableDataset) else {}
    assert sum(len(batch) for batch in loader(dataset, **keywords)) == 8
    assert why in "; ".join(ended(process, one).notes)


def test_a_transformed_tensor_that_some_samples_change_in_place_is_not_kept(
    process: Process, jpegs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first samples, which are looked at, do not."""
    monkeypatch.setattr(sample_shelf, "REPAID", 1e9)  # whatever making them costs

    class Faded(Views):
        def __getitem__(self, index: int) -> Any:
            view = self.transform(Image.open(self.paths[index]).convert("RGB"))
            return view.mul_(0.5) if index == 0 else view

    def passed() -> Any:
        faded = Faded(jpegs, CHAINS["random at first"])
        return loader(faded, shuffle=False, sampler=range(LENGTH)[::-1])

    bare = seen(passed())
    one = applied(process)
    assert seen(passed()) == bare
    assert "it changes what its transforms return" in "; ".join(ended(process, one).notes)


def test_a_transform_whose_parts_are_fewer_at_times_is_given_up(
    process: Process, jpegs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_shelf, "REPAID", 1e9)

    class Crops(Views):
        def __getitem__(self, index: int) -> Any:
            return tuple(self.transform(Image.open(self.paths[index]).convert("RGB")))

    calls = []

    def several(image: Any) -> Any:
        calls.append(image)
        return [torch.rand(2) for _ in range(3 if len(calls) < 60 else 1)]

    one = applied(process)
    dataset = Crops(jpegs, transforms.Compose([transforms.Resize(8), several]))
    for _ in range(9):
        assert all(sample for batch in loader(dataset) for sample in batch)
    assert "has other parts each time" in "; ".join(ended(process, one).notes)


def test_a_data_set_may_ask_what_its_transform_is(process: Process, jpegs: Path) -> None:
    class Asking(Views):
        def __getitem__(self, index: int) -> Any:
            image = Image.open(self.paths[index]).convert("RGB")
            assert isinstance(self.transform, torch.nn.Sequential)
            assert self.transform
            assert len(self.transform) == 2
            for step in self.transform:
                image = step(image)
            return image, self.transform[0].size

    def make() -> Any:
        return Asking(jpegs, torch.nn.Sequential(v2.Resize(8), v2.PILToTensor()))

    bare = seen(loader(make()))
    applied(process)
    assert seen(loader(make())) == bare
