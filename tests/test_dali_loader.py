"""A loader whose images DALI makes is a drop-in: order, structure, length, labels, ends."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import CLASSES, applied  # noqa: E402
from torch.utils.data import (  # noqa: E402
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    random_split,
)
from torchvision import transforms  # noqa: E402
from torchvision.datasets import DatasetFolder, ImageFolder  # noqa: E402
from torchvision.datasets.folder import default_loader  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.dali.engine import NAME  # noqa: E402

PLAIN = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
FLIPPED = transforms.Compose([transforms.RandomHorizontalFlip(), *PLAIN.transforms])


def passes(loader: Any, count: int = 1, seed: int = 0) -> list[list[Any]]:
    torch.manual_seed(seed)
    return [list(loader) for _ in range(count)]


def alike(one: list[list[Any]], other: list[list[Any]]) -> bool:
    """Tell whether two runs of passes have the same batches, images and labels."""
    return [len(batches) for batches in one] == [len(batches) for batches in other] and all(
        type(a) is type(b)
        and len(a) == len(b) == 2
        and all(type(x) is type(y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))
        and a[0].shape == b[0].shape
        and torch.allclose(a[0], b[0], atol=1e-6, rtol=0)
        and torch.equal(a[1], b[1])
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


def loaders(data: Any) -> dict[str, Any]:
    """Return loaders of every kind of order, each with its own arguments."""
    few = Subset(data, [3, 1, 11, 7, 5, 2, 17])
    halves = random_split(data, [0.5, 0.5], generator=torch.Generator().manual_seed(5))
    own = torch.Generator().manual_seed(3)
    return {
        "shuffled": DataLoader(data, 4, shuffle=True),
        "last batch dropped": DataLoader(data, 5, shuffle=True, drop_last=True),
        "own generator": DataLoader(data, 4, shuffle=True, generator=own),
        "random sampler": DataLoader(data, 4, sampler=RandomSampler(data, num_samples=30)),
        "subset sampler": DataLoader(data, 4, sampler=SubsetRandomSampler(range(3, 12))),
        "batch sampler": DataLoader(
            data, batch_sampler=BatchSampler(RandomSampler(data), 7, drop_last=False)
        ),
        "subset": DataLoader(few, 3, shuffle=True),
        "split": DataLoader(halves[1], 4, shuffle=True),
        "part of a part": DataLoader(Subset(few, [6, 0, 2]), 2, shuffle=True),
        "one rank": DataLoader(data, 4, sampler=DistributedSampler(data, 3, 1, seed=4)),
        "in workers": DataLoader(
            data, 4, shuffle=True, num_workers=2, persistent_workers=True, prefetch_factor=3
        ),
    }


@pytest.mark.parametrize("kind", loaders(list(range(18))))
def test_batches_are_those_of_the_script_in_its_order(
    kind: str, root: Path, process: Process
) -> None:
    data = ImageFolder(str(root), PLAIN)
    bare = passes(loaders(data)[kind], 2)
    one = applied(process)
    loader = loaders(data)[kind]
    found = passes(loader, 2)
    assert one.effects == 1
    assert alike(found, bare)
    assert len(loader) == len(found[0])
    assert loader.dataset is data or isinstance(loader.dataset, Subset)


def test_a_rank_has_another_order_in_each_epoch_it_is_told_of(
    root: Path, process: Process
) -> None:
    applied(process)
    data = ImageFolder(str(root), PLAIN)
    orders = []
    for rank in range(2):
        sampler = DistributedSampler(data, 2, rank, seed=1)
        loader = DataLoader(data, 4, sampler=sampler)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            expected = [data.targets[index] for index in sampler]
            got = [int(label) for _images, labels in loader for label in labels]
            assert got == expected
            orders.append(list(sampler))
    assert orders[0] != orders[1]
    assert sorted(orders[0] + orders[2]) == list(range(len(data)))


def test_the_same_seed_makes_the_same_images_and_another_epoch_others(
    root: Path, process: Process
) -> None:
    applied(process)
    crop = transforms.Compose([transforms.RandomResizedCrop(48), transforms.ToTensor()])
    data = ImageFolder(str(root), crop)
    first = passes(DataLoader(data, 4, shuffle=True), 2, seed=3)
    again = passes(DataLoader(data, 4, shuffle=True), 2, seed=3)
    assert alike(first, again)
    assert not alike(first[:1], first[1:])


def test_labels_pass_through_the_scripts_own_function(root: Path, process: Process) -> None:
    applied(process)
    data = ImageFolder(str(root), FLIPPED, target_transform=lambda label: {"is": label * 0.5})
    found = sorted(
        float(value)
        for _images, labels in DataLoader(data, 4, shuffle=True)
        for value in labels["is"]
    )
    assert found == sorted(label * 0.5 for label in data.targets)


def test_a_folder_of_files_by_torchvisions_loader_is_taken(root: Path, process: Process) -> None:
    one = applied(process)
    data = DatasetFolder(str(root), default_loader, extensions=("jpg",), transform=PLAIN)
    assert len(list(DataLoader(data, 4, shuffle=True))) == 5
    assert one.effects == 1


def test_an_epoch_left_early_does_not_disturb_the_next(root: Path, process: Process) -> None:
    applied(process)
    data = ImageFolder(str(root), PLAIN)
    loader = DataLoader(data, 2, shuffle=True)
    for _ in range(3):
        for _batch in loader:
            break
    assert sum(len(labels) for _images, labels in loader) == len(data)


def test_two_passes_at_once_do_not_mix(root: Path, process: Process) -> None:
    applied(process, validation=True)
    data = ImageFolder(str(root), PLAIN)
    loader = DataLoader(data, 4)
    pairs = list(zip(loader, loader, strict=True))
    assert len(pairs) == 5
    assert all(torch.equal(one[0], other[0]) for one, other in pairs)


def test_batches_that_are_kept_stay_as_they_were(root: Path, process: Process) -> None:
    applied(process)
    data = ImageFolder(str(root), PLAIN)
    kept, copies = [], []
    for images, _labels in DataLoader(data, 2, shuffle=True):
        kept.append(images)
        copies.append(images.clone())
    assert all(torch.equal(one, other) for one, other in zip(kept, copies, strict=True))
    kept[0].add_(1.0)
    assert torch.equal(kept[1], copies[1])


def test_a_validation_loader_stays_unless_asked(root: Path, process: Process) -> None:
    data = ImageFolder(str(root), PLAIN)
    one = applied(process)
    assert len(list(DataLoader(data, 4))) == 5
    assert one.effects == 0
    assert "nothing in it is random" in one.notes[0]
    process.undo()
    asked = applied(process, validation=True)
    assert alike([list(DataLoader(data, 4))], [list(DataLoader(data, 4))])
    assert asked.effects == 2


def test_a_transform_that_changes_between_epochs_is_followed(root: Path, process: Process) -> None:
    applied(process)
    data = ImageFolder(str(root), PLAIN)
    loader = DataLoader(data, 4, shuffle=True)
    assert next(iter(loader))[0].shape[2:] == (64, 64)
    data.transform = transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor()])
    assert next(iter(loader))[0].shape[2:] == (32, 32)


def test_the_table_tells_what_each_transform_became(root: Path, process: Process) -> None:
    one = applied(process)
    next(iter(DataLoader(ImageFolder(str(root), FLIPPED), 4, shuffle=True)))
    (table,) = one.notes
    assert "ImageFolder (18 samples) through DALI" in table
    assert "CenterCrop as slice" in table
    assert "ToTensor as crop_mirror_normalize" in table


def refused() -> dict[str, tuple[Any, dict[str, Any], str]]:
    chain = transforms.Compose
    to = transforms.ToTensor()
    return {
        "lambda": (chain([transforms.Lambda(lambda x: x), to]), {}, "Lambda refused"),
        "own": (chain([len, to]), {}, "it is not torchvision's but builtins's"),
        "perspective": (
            chain([transforms.RandomPerspective(), to]),
            {},
            "parallel lines",
        ),
        "pictures": (transforms.CenterCrop(9), {}, "it ends with PIL images"),
        "expanding": (chain([transforms.RandomRotation(9, expand=True), to]), {}, "expand=True"),
        "noise": (chain([to, transforms.RandomErasing(value="random")]), {}, "noise"),
        "hamming": (
            chain([transforms.Resize(9, transforms.InterpolationMode.HAMMING), to]),
            {},
            "no hamming",
        ),
        "collating": (PLAIN, {"collate_fn": lambda batch: batch}, "a collate_fn of its own"),
        "no batches": (PLAIN, {"batch_size": None}, "no batches"),
    }


@pytest.mark.parametrize("kind", refused())
def test_what_is_not_understood_stays_the_scripts_and_is_named(
    kind: str, root: Path, process: Process
) -> None:
    one = applied(process)
    transform, arguments, why = refused()[kind]
    data = ImageFolder(str(root), transform)
    iterator = iter(DataLoader(data, **{"batch_size": 4, "shuffle": True, **arguments}))
    assert type(iterator).__name__ == "_SingleProcessDataLoaderIter"
    assert one.effects == 0
    assert "stays as it is" in one.notes[0]
    assert why in one.notes[0]


def test_another_data_set_stays_the_scripts(root: Path, process: Process) -> None:
    class Doubled(ImageFolder):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            return 2 * image, label

    one = applied(process)
    assert len(list(DataLoader(Doubled(str(root), PLAIN), 9, shuffle=True))) == 2
    assert len(list(DataLoader(torch.arange(4), 2, shuffle=True))) == 2
    assert one.effects == 0
    assert "Doubled is no torchvision ImageFolder or DatasetFolder" in one.notes[0]


def test_a_loader_that_goes_takes_its_threads_along(root: Path, process: Process) -> None:
    applied(process)
    loader = DataLoader(ImageFolder(str(root), PLAIN), 4, shuffle=True)
    next(iter(loader))
    assert [one.name for one in threading.enumerate()].count(NAME) == 2
    del loader
    gc.collect()
    assert [one.name for one in threading.enumerate()].count(NAME) == 0


def test_undone_the_loader_is_torchs_again(root: Path, process: Process) -> None:
    applied(process)
    loader = DataLoader(ImageFolder(str(root), PLAIN), 4, shuffle=True)
    assert type(iter(loader)).__name__ == "DaliPass"
    assert process.undo() == []
    assert type(iter(loader)).__name__ == "_SingleProcessDataLoaderIter"
    assert len(CLASSES) == len(loader.dataset.classes)


def test_workers_of_another_loader_can_be_forked_meanwhile(root: Path, process: Process) -> None:
    one = applied(process)
    data = ImageFolder(str(root), FLIPPED)
    plain = ImageFolder(str(root), PLAIN)
    training = DataLoader(data, 2, shuffle=True)
    seen = 0
    for number, _batch in enumerate(training):
        if number % 3 == 0:  # as validation amid an epoch
            seen += sum(len(labels) for _images, labels in DataLoader(plain, 6, num_workers=2))
    assert seen == 3 * len(data)
    assert one.effects == 1


def test_other_remedies_of_loaders_go_along(root: Path, process: Process) -> None:
    process.apply(
        [
            {"name": "loader-workers", "parameters": {"num_workers": 2}},
            {"name": "dali-loading", "parameters": {}},
        ]
    )
    loader = DataLoader(ImageFolder(str(root), FLIPPED), 4, shuffle=True)
    assert type(iter(loader)).__name__ == "DaliPass"
    assert sum(len(labels) for _images, labels in loader) == 18


def test_a_pass_under_way_goes_on_when_the_remedy_is_taken_back(
    root: Path, process: Process
) -> None:
    applied(process)
    data = ImageFolder(str(root), PLAIN)
    bare = passes(DataLoader(data, 2, generator=torch.Generator().manual_seed(2), shuffle=True))
    loader = DataLoader(data, 2, generator=torch.Generator().manual_seed(2), shuffle=True)
    iterator = iter(loader)
    first = next(iterator)
    assert process.undo() == []
    assert alike([[first, *iterator]], bare)


ENDINGS = {
    "amid an epoch": ("pass", 0),
    "by an exit": ("raise SystemExit(3)", 3),
    "by an error": ("raise ValueError('mine')", 1),
    "by Ctrl-C": ("import os, signal; os.kill(os.getpid(), signal.SIGINT); next(iterator)", -2),
}
TRAINING = """
import sys, torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from speedprof.mitigations.applied.process import Process
from speedprof.profiler.fence import Fence
process = Process(Fence(print), {})
process.apply([{"name": "dali-loading", "parameters": {}}])
chain = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
class Own(ImageFolder):
    def __getitem__(self, index):
        return super().__getitem__(index)
kind = {"folder": ImageFolder, "own": Own}[sys.argv[2]]
loader = DataLoader(kind(sys.argv[1], chain), 2, shuffle=True)
iterator = iter(loader)
print(len(next(iterator)[1]), process.applied[0].effects)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind"),
    [*((how, "folder") for how in ENDINGS), ("amid an epoch", "own"), ("by Ctrl-C", "own")],
)
def test_a_script_ends_as_it_would_while_batches_are_in_the_making(
    how: str, kind: str, root: Path
) -> None:
    line, status = ENDINGS[how]
    ended = subprocess.run(
        [sys.executable, "-c", TRAINING + line, str(root), kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == status
    assert ended.stdout == "2 1\n"
    assert ended.stderr.count("Error") == (how == "by an error")
