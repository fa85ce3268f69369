"""Samples that are kept are those that the data set would make, to the last bit."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")

import numpy as np  # noqa: E402
from cache_cases import (  # noqa: E402
    CHAINS,
    LENGTH,
    PASSES,
    Slow,
    Views,
    applied,
    ended,
    loader,
    seen,
)
from PIL import Image  # noqa: E402
from torch.utils.data import ConcatDataset, Subset, get_worker_info  # noqa: E402
from torchvision import transforms, tv_tensors  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from speedprof.mitigations.applied import sample_shelf  # noqa: E402
from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.applied.sample_shelf import LOOKED  # noqa: E402


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep samples whatever making them costs: a busy machine may make one quickly."""
    monkeypatch.setattr(sample_shelf, "REPAID", 1e9)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("chain", CHAINS)
def test_batches_are_bit_equal_in_every_pass(process: Process, jpegs: Path, chain: str) -> None:
    bare = seen(loader(ImageFolder(str(jpegs), CHAINS[chain])))
    one = applied(process)
    dataset = ImageFolder(str(jpegs), CHAINS[chain])
    assert seen(loader(dataset)) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)
    assert dataset.transform is CHAINS[chain]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("persistent", [True, False])
def test_what_one_worker_has_made_every_other_finds(
    process: Process, jpegs: Path, persistent: bool
) -> None:
    """Workers draw from their own seeds: the order of samples decides which worker has which."""
    keywords = {"num_workers": 2, "persistent_workers": persistent}
    chain = CHAINS["random at the end"]
    bare = seen(loader(ImageFolder(str(jpegs), chain), **keywords))
    one = applied(process)
    passed = loader(ImageFolder(str(jpegs), chain), **keywords)
    assert seen(passed) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)
    del passed


@pytest.mark.usefixtures("patient")
def test_parts_and_rows_of_data_sets_share_what_is_kept(process: Process, jpegs: Path) -> None:
    chain = CHAINS["version 2"]

    def rows() -> Any:
        dataset = ImageFolder(str(jpegs), chain)
        return ConcatDataset([Subset(dataset, [3, 1, 5]), Subset(dataset, [5, 7])])

    bare = seen(loader(rows()))
    one = applied(process)
    assert seen(loader(rows())) == bare
    assert ended(process, one).effects == 5 * PASSES - 4


SAMPLES = {
    "tensors": lambda index: (torch.arange(12.0).reshape(3, 4).T + index, index),
    "arrays": lambda index: {"x": np.full((4, 5), index, dtype="<f8", order="F"), "name": "one"},
    "images": lambda index: Image.new("L", (30, 20), index),
    "nested": lambda index: [index, {"a": (torch.tensor(index), b"bytes", None)}, 1.5],
    "a view": lambda index: tv_tensors.Mask(torch.full((2, 2), index)),
    "empty": lambda index: (torch.empty(0, 3), np.empty((0, 2)), index),
    "bfloat16": lambda index: torch.full((5,), index, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_whole_samples_are_kept_where_nothing_is_random(process: Process, kind: str) -> None:
    bare = seen(loader(Slow(SAMPLES[kind])))
    one = applied(process)
    assert seen(loader(Slow(SAMPLES[kind]))) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)


def test_what_a_script_changes_in_a_sample_changes_nothing_that_is_kept(process: Process) -> None:
    one = applied(process)
    dataset = Slow(lambda index: (torch.full((3,), float(index)), {"seen": 0}))
    for _ in range(PASSES):
        for index in range(LENGTH):
            tensor, notes = dataset[index] if one.effects else next(iter(loader(dataset)))[0]
            assert notes == {"seen": 0}
            tensor += 1.0
            notes["seen"] += 1
    assert seen(loader(dataset)) == seen(loader(Slow(dataset.make)))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("target", [None, torch.tensor, lambda label: torch.rand(1) + label])
def test_a_data_set_of_the_users_own_is_kept_up_to_its_transforms(
    process: Process, jpegs: Path, target: Any
) -> None:
    chain = CHAINS["random at first"]
    bare = seen(loader(Views(jpegs, chain, target)))
    one = applied(process)
    assert seen(loader(Views(jpegs, chain, target))) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)


@pytest.mark.usefixtures("patient")
def test_joint_transforms_of_image_and_target_are_run_anew(process: Process, jpegs: Path) -> None:
    class Joint(Views):
        def __init__(self) -> None:
            super().__init__(jpegs, None)
            self.transforms = v2.Compose(
                [v2.ToImage(), v2.Resize((40, 40)), v2.RandomCrop(24), v2.RandomHorizontalFlip()]
            )

        def __getitem__(self, index: int) -> Any:
            with Image.open(self.paths[index]) as opened:
                mask = tv_tensors.Mask(torch.arange(64).reshape(8, 8) + index)
                return self.transforms(opened.convert("RGB"), mask)

    bare = seen(loader(Joint()))
    one = applied(process)
    assert seen(loader(Joint())) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("change", ["size", "chain", "attribute"])
def test_a_transform_that_is_changed_between_passes_is_followed(
    process: Process, jpegs: Path, change: str
) -> None:
    def train() -> Any:
        chain = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
        dataset = ImageFolder(str(jpegs), chain)
        found = seen(loader(dataset), 2)
        if change == "size":
            chain.transforms[0].size = (16, 16)
        elif change == "chain":
            chain.transforms[0] = transforms.Resize((24, 24))
        else:
            dataset.transform = transforms.Compose([transforms.ToTensor()])
        return found + seen(loader(dataset), 2)

    bare = train()
    one = applied(process)
    assert train() == bare
    assert ended(process, one).effects == LENGTH
    assert "changes while it is read" in "; ".join(one.notes)


def test_what_is_opened_with_the_first_sample_is_no_change(process: Process) -> None:
    class Opening(Slow):
        file: Any = None

        def __init__(self) -> None:
            super().__init__(lambda index: index)
            self.file = None

        def __getitem__(self, index: int) -> Any:
            self.file = self.file or [1, 2]
            return super().__getitem__(index)

    one = applied(process)
    assert seen(loader(Opening())) == seen(loader(Opening()))
    assert ended(process, one).effects >= LENGTH * (PASSES - 1)


def test_looking_at_samples_leaves_the_generators_where_they_were(process: Process) -> None:
    def after(dataset: Any) -> tuple[float, float, float]:
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)
        list(loader(dataset, shuffle=False))
        return torch.rand(1).item(), random.random(), float(np.random.rand())

    bare = after(Slow(lambda index: index))
    applied(process)
    assert after(Slow(lambda index: index)) == bare
    assert LOOKED < LENGTH


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("flip", [transforms.RandomHorizontalFlip(), lambda image: image])
def test_a_transform_that_may_return_what_it_was_given_is_kept_apart(
    process: Process, jpegs: Path, flip: Any
) -> None:
    """A sample that holds both the image and its random view, which is sometimes the same one."""

    class Pairs(Views):
        def __getitem__(self, index: int) -> Any:
            with Image.open(self.paths[index]) as opened:
                image = opened.convert("RGB").resize((16, 12))
            return image, self.transform(image)

    bare = seen(loader(Pairs(jpegs, flip)), 6)
    one = applied(process)
    assert seen(loader(Pairs(jpegs, flip)), 6) == bare
    assert ended(process, one).effects == 5 * LENGTH


def test_a_transform_that_changes_its_input_in_place_changes_nothing_kept(
    process: Process,
) -> None:
    class Noise:
        def __call__(self, tensor: Any) -> Any:
            return tensor.add_(torch.rand(1))

    class Tensors(Slow):
        def __init__(self) -> None:
            super().__init__(lambda index: torch.full((3,), float(index)))
            self.transform = Noise()

        def __getitem__(self, index: int) -> Any:
            return self.transform(super().__getitem__(index))

    bare = seen(loader(Tensors()))
    one = applied(process)
    assert seen(loader(Tensors())) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("dies", [False, True])
def test_workers_that_were_added_share_what_is_kept_even_where_one_dies(
    process: Process, jpegs: Path, dies: bool
) -> None:
    """Nothing random in the samples: with other workers' seeds batches stay the same."""

    class Mortal(ImageFolder):
        def __getitem__(self, index: int) -> Any:
            if dies and index == 7 and get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    chain = CHAINS["nothing random"]
    bare = seen(loader(Mortal(str(jpegs), chain), shuffle=False))
    process.apply(
        [
            {"name": "loader-workers", "parameters": {"num_workers": 2}},
            {"name": "cache-samples", "parameters": {"budget_mb": 64}},
        ]
    )
    passed = loader(Mortal(str(jpegs), chain), shuffle=False)
    assert seen(passed) == bare
    assert passed.num_workers == (0 if dies else 2)
    process.finish()
    cache = next(one for one in process.applied if one.name == "cache-samples")
    assert cache.effects >= LENGTH * (PASSES - 1)
