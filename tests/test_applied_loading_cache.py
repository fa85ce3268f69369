"""Samples that are kept are those that the data set would make, to the last bit."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import chain as joined
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")

from PIL import Image  # noqa: E402
from torch.utils.data import (  # noqa: E402
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    get_worker_info,
)
from torchvision import transforms, tv_tensors  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from speedprof.mitigations.applied import sample_shelf  # noqa: E402
from speedprof.mitigations.applied.process import Applied, Process  # noqa: E402
from speedprof.mitigations.applied.sample_shelf import CHECKED, LOOKED  # noqa: E402

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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of JPEG images in two classes."""
    folder = tmp_path_factory.mktemp("images")
    drawn = np.random.default_rng(0)
    for place in range(LENGTH):
        path = folder / f"class{place % 2}" / f"{place:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = drawn.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((640, 480)).save(path)
    return folder


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep samples whatever making them costs: a busy machine may make one quickly."""
    monkeypatch.setattr(sample_shelf, "REPAID", 1e9)


def applied(process: Process, **parameters: object) -> Applied:
    process.apply([{"name": "cache-samples", "parameters": parameters}])
    return process.applied[-1]


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


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("chain", CHAINS)
def test_batches_are_bit_equal_in_every_pass(process: Process, root: Path, chain: str) -> None:
    bare = seen(loader(ImageFolder(str(root), CHAINS[chain])))
    one = applied(process)
    dataset = ImageFolder(str(root), CHAINS[chain])
    assert seen(loader(dataset)) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)
    assert dataset.transform is CHAINS[chain]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("persistent", [True, False])
def test_what_one_worker_has_made_every_other_finds(
    process: Process, root: Path, persistent: bool
) -> None:
    """Workers draw from their own seeds: the order of samples decides which worker has which."""
    keywords = {"num_workers": 2, "persistent_workers": persistent}
    chain = CHAINS["random at the end"]
    bare = seen(loader(ImageFolder(str(root), chain), **keywords))
    one = applied(process)
    passed = loader(ImageFolder(str(root), chain), **keywords)
    assert seen(passed) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)
    del passed


@pytest.mark.usefixtures("patient")
def test_parts_and_rows_of_data_sets_share_what_is_kept(process: Process, root: Path) -> None:
    chain = CHAINS["version 2"]

    def rows() -> Any:
        dataset = ImageFolder(str(root), chain)
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


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("target", [None, torch.tensor, lambda label: torch.rand(1) + label])
def test_a_data_set_of_the_users_own_is_kept_up_to_its_transforms(
    process: Process, root: Path, target: Any
) -> None:
    chain = CHAINS["random at first"]
    bare = seen(loader(Views(root, chain, target)))
    one = applied(process)
    assert seen(loader(Views(root, chain, target))) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)


@pytest.mark.usefixtures("patient")
def test_joint_transforms_of_image_and_target_are_run_anew(process: Process, root: Path) -> None:
    class Joint(Views):
        def __init__(self) -> None:
            super().__init__(root, None)
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


def unkept(process: Process, make: Any, *, passes: int = PASSES) -> str:
    """Check that batches stay bit-equal, and return why samples were not kept."""
    bare = seen(loader(make()), passes)
    one = applied(process)
    assert seen(loader(make()), passes) == bare
    return "; ".join(ended(process, one).notes)


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
    process: Process, root: Path
) -> None:
    class Scaled(Views):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)["views"][0] * 2

    chain = CHAINS["random at first"]
    assert "it changes what its transforms return" in unkept(process, lambda: Scaled(root, chain))


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


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("change", ["size", "chain", "attribute"])
def test_a_transform_that_is_changed_between_passes_is_followed(
    process: Process, root: Path, change: str
) -> None:
    def train() -> Any:
        chain = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
        dataset = ImageFolder(str(root), chain)
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


def test_quickly_made_samples_are_not_worth_keeping(process: Process) -> None:
    class Quick(Slow):
        def __getitem__(self, index: int) -> Any:
            return torch.full((200, 200), float(index))

    assert "keeping them gains nothing" in unkept(process, lambda: Quick(None))


def test_no_more_is_kept_than_the_budget_holds(process: Process) -> None:
    one = applied(process, budget_mb=1)
    make = lambda index: torch.full((64, 1024), float(index))  # noqa: E731 - a quarter of it
    dataset = Slow(make)
    assert seen(loader(dataset)) == seen(loader(Slow(make)))
    ended(process, one)
    assert 0 < one.effects <= 3 * 2 * (PASSES - 1)
    assert "of 1 MB were used; then its budget was full" in "; ".join(one.notes)


@pytest.mark.usefixtures("patient")
def test_fewer_steps_are_kept_where_all_of_them_have_no_room(process: Process, root: Path) -> None:
    """As float32 at 224 pixels, twelve images need 7 MB; as they are decoded, 11; at 224, 1.8."""
    chain = transforms.Compose(
        [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.RandomErasing()]
    )
    bare = seen(loader(ImageFolder(str(root), chain)))
    one = applied(process, budget_mb=3)
    assert seen(loader(ImageFolder(str(root), chain))) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)


def test_errors_of_the_data_set_stay_its_own(process: Process, root: Path) -> None:
    def broken(index: int) -> Any:
        if index == 5:
            raise LookupError("sample 5 is damaged")
        return index

    applied(process)
    dataset = Slow(broken)
    for _ in range(2):
        with pytest.raises(LookupError, match=r"^sample 5 is damaged$"):
            list(loader(dataset, shuffle=False))


def test_errors_of_a_transform_stay_its_own(process: Process, root: Path) -> None:
    calls = []

    def fails(image: Any) -> Any:
        calls.append(image)
        if len(calls) > 3 * LENGTH:
            raise OverflowError("too often")
        return torch.rand(2)

    applied(process)
    passed = loader(ImageFolder(str(root), transforms.Compose([transforms.Resize(8), fails])))
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


def test_a_single_pass_has_no_effect_and_says_so(process: Process) -> None:
    one = applied(process)
    seen(loader(Slow(lambda index: index)), 1)
    assert ended(process, one).effects == 0
    assert f"{LENGTH} samples of Slow were kept, and none was read again" in one.notes


def test_undone_the_class_is_as_it_was_and_the_memory_free(process: Process) -> None:
    own = Slow.__getitem__
    dataset = Slow(lambda index: torch.full((256, 1024), float(index)))
    bare = seen(loader(dataset))
    before = _shared_bytes()
    applied(process)
    assert seen(loader(dataset)) == bare
    assert Slow.__getitem__ is not own
    assert _shared_bytes() > before + (LENGTH << 20) - (1 << 20)
    assert process.undo() == []
    assert Slow.__getitem__ is own
    assert _shared_bytes() < before + (1 << 20)
    assert seen(loader(dataset)) == bare


def _shared_bytes() -> int:
    """Return what of this process's memory is shared, as Linux counts it."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssShmem"))
    return int(line.split()[1]) * 1024


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
    process: Process, root: Path, flip: Any
) -> None:
    """A sample that holds both the image and its random view, which is sometimes the same one."""

    class Pairs(Views):
        def __getitem__(self, index: int) -> Any:
            with Image.open(self.paths[index]) as opened:
                image = opened.convert("RGB").resize((16, 12))
            return image, self.transform(image)

    bare = seen(loader(Pairs(root, flip)), 6)
    one = applied(process)
    assert seen(loader(Pairs(root, flip)), 6) == bare
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
    process: Process, root: Path, dies: bool
) -> None:
    """Nothing random in the samples: with other workers' seeds batches stay the same."""

    class Mortal(ImageFolder):
        def __getitem__(self, index: int) -> Any:
            if dies and index == 7 and get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    chain = CHAINS["nothing random"]
    bare = seen(loader(Mortal(str(root), chain), shuffle=False))
    process.apply(
        [
            {"name": "loader-workers", "parameters": {"num_workers": 2}},
            {"name": "cache-samples", "parameters": {"budget_mb": 64}},
        ]
    )
    passed = loader(Mortal(str(root), chain), shuffle=False)
    assert seen(passed) == bare
    assert passed.num_workers == (0 if dies else 2)
    process.finish()
    cache = next(one for one in process.applied if one.name == "cache-samples")
    assert cache.effects >= LENGTH * (PASSES - 1)
