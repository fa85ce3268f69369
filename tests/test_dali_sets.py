"""Parts and sums of folders, files in lists, ranks, and passes that are resumed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import applied, paths_in  # noqa: E402
from torch.utils.data import (  # noqa: E402
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    Sampler,
    Subset,
    random_split,
)
from torchvision import transforms  # noqa: E402
from torchvision.datasets import Flowers102, ImageFolder, Imagenette  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.dali.engine import NAME  # noqa: E402

PLAIN = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
CROPPED = transforms.Compose([transforms.RandomResizedCrop(48), transforms.ToTensor()])


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.allclose(a[0], b[0], atol=1e-6) and torch.equal(a[1], b[1])
        for a, b in zip(one, other, strict=True)
    )


def shuffled(data: Any, **arguments: Any) -> list[Any]:
    torch.manual_seed(2)
    return list(DataLoader(data, 4, shuffle=True, **arguments))


def sums(root: Path) -> dict[str, Any]:
    one = ImageFolder(str(root), PLAIN)
    other = ImageFolder(str(root), PLAIN, target_transform=lambda label: label + 100)
    halves = random_split(one, [0.3, 0.7], generator=torch.Generator().manual_seed(1))
    return {
        "two folders": ConcatDataset([one, other]),
        "the same twice": one + one,
        "a part of a sum": Subset(ConcatDataset([one, other]), [0, 20, 35, 3, 17, 18]),
        "a sum of parts": ConcatDataset([halves[0], Subset(other, [2, 1])]),
    }


@pytest.mark.parametrize("kind", sorted(("two folders", "the same twice", "a part of a sum",
                                         "a sum of parts")))  # fmt: skip
def test_sums_of_folders_are_indexed_as_torch_does(
    kind: str, root: Path, process: Process
) -> None:
    bare = shuffled(sums(root)[kind])
    one = applied(process)
    assert same(shuffled(sums(root)[kind]), bare)
    assert one.effects == 1
    assert "opened by the data set's own code" not in one.notes[0]


def test_an_index_from_the_end_is_the_same_sample(root: Path, process: Process) -> None:
    data = ConcatDataset([ImageFolder(str(root), PLAIN), ImageFolder(str(root), PLAIN)])
    order = [-1, -36, 0, 18, -19]
    bare = list(DataLoader(data, 2, sampler=order))
    applied(process, validation=True)
    assert same(list(DataLoader(data, 2, sampler=order)), bare)


def test_a_sum_with_two_transforms_stays_the_scripts(root: Path, process: Process) -> None:
    data = ConcatDataset([ImageFolder(str(root), PLAIN), ImageFolder(str(root), CROPPED)])
    one = applied(process)
    iterator = iter(DataLoader(data, 4, shuffle=True))
    assert type(iterator).__name__ == "_SingleProcessDataLoaderIter"
    assert "its parts have different transforms" in one.notes[0]


def listed(kind: Any, root: Path, **attributes: Any) -> Any:
    """Return one of torchvision's data sets as if it had been downloaded."""
    data = kind.__new__(kind)
    vars(data).update(
        root=str(root), transform=PLAIN, target_transform=lambda label: label * 2,
        transforms=None, loader=ImageFolder(str(root)).loader, **attributes,
    )  # fmt: skip
    return data


def test_files_and_labels_in_lists_are_read_by_dali(root: Path, process: Process) -> None:
    files = [Path(path) for path in paths_in(root)]
    labels = list(range(len(files)))
    samples = list(zip(map(str, files), labels, strict=True))
    for data in (
        listed(Flowers102, root, _image_files=files, _labels=labels),
        listed(Imagenette, root, _samples=samples),
    ):
        bare = shuffled(data)
        one = applied(process)
        assert same(shuffled(data), bare)
        assert one.effects == 1
        assert "opened by the data set's own code" not in one.notes[0]
        assert process.undo() == []


def test_torchvision_reads_lists_as_we_do() -> None:
    """The data sets of the list make a sample of a path and a label, by their loader."""
    import inspect

    import torchvision.datasets

    from speedprof.mitigations.dali.datasets import LISTS

    for name, attributes in LISTS.items():
        read = inspect.getsource(getattr(torchvision.datasets, name).__getitem__)
        assert all(f"self.{attribute}[" in read for attribute in attributes), name
        assert read.count("self.loader(") == 1, name
        assert "Image.open" not in read, name


@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_an_epoch_without_overlap_and_differ_between_epochs(
    drop_last: bool, root: Path, process: Process
) -> None:
    applied(process)
    data = ImageFolder(str(root), PLAIN, target_transform=None)
    data.samples = [(path, number) for number, (path, _label) in enumerate(data.samples)]
    epochs = []
    for epoch in range(2):
        seen = []
        for rank in range(4):
            sampler = DistributedSampler(data, 4, rank, seed=7, drop_last=drop_last)
            sampler.set_epoch(epoch)
            loader = DataLoader(data, 2, sampler=sampler, drop_last=drop_last)
            batches = list(loader)
            assert len(batches) == len(loader)
            seen += [int(label) for _images, labels in batches for label in labels]
        assert len(set(seen)) == (16 if drop_last else 18)
        epochs.append(seen)
    assert epochs[0] != epochs[1]


def test_a_pass_that_skips_what_was_trained_on_has_the_same_batches(
    root: Path, process: Process
) -> None:
    applied(process)
    whole = shuffled(ImageFolder(str(root), CROPPED))
    torch.manual_seed(2)
    resumed = iter(DataLoader(ImageFolder(str(root), CROPPED), 4, shuffle=True))
    for _trained_on in range(2):
        next(resumed)
    assert same(list(resumed), whole[2:])


class Resumable(Sampler[int]):  # type: ignore[misc]
    """Keeps its place, as samplers do that are saved with a checkpoint."""

    def __init__(self, length: int) -> None:
        self.length, self.at = length, 0

    def __iter__(self) -> Iterator[int]:
        while self.at < self.length:
            self.at += 1
            yield self.at - 1
        self.at = 0

    def __len__(self) -> int:
        return self.length - self.at

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}


def test_a_sampler_that_is_saved_amid_an_epoch_keeps_its_place(
    root: Path, process: Process
) -> None:
    one = applied(process)
    sampler = Resumable(18)
    iterator = iter(DataLoader(ImageFolder(str(root), CROPPED), 4, sampler=sampler))
    next(iterator)
    assert sampler.state_dict() == {"at": 4}
    assert one.effects == 0
    assert "its sampler keeps a state" in one.notes[0]


def test_with_workers_torch_asks_ahead_itself_and_dali_may(root: Path, process: Process) -> None:
    one = applied(process)
    data = ImageFolder(str(root), CROPPED)
    loader = DataLoader(data, 4, sampler=Resumable(18), num_workers=2)
    assert sum(len(labels) for _images, labels in loader) == 18
    assert one.effects == 1


@pytest.mark.filterwarnings("ignore:.set_vital. is deprecated")  # torchdata calls it
def test_a_stateful_loader_keeps_its_own_passes(root: Path, process: Process) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="no torchdata")
    one = applied(process)
    torch.manual_seed(2)
    loader = stateful.StatefulDataLoader(ImageFolder(str(root), PLAIN), 4, shuffle=True)
    iterator = iter(loader)
    first = next(iterator)
    state = loader.state_dict()
    rest = list(iterator)
    again = stateful.StatefulDataLoader(ImageFolder(str(root), PLAIN), 4, shuffle=True)
    again.load_state_dict(state)
    assert same(list(again), rest)
    assert len(first[1]) == 4
    assert one.effects == 0


def test_pipelines_stay_from_epoch_to_epoch(root: Path, process: Process) -> None:
    applied(process)
    loader = DataLoader(ImageFolder(str(root), CROPPED), 4, shuffle=True)
    threads = []
    for _epoch in range(3):
        list(loader)
        threads.append({one.ident for one in threading.enumerate() if one.name == NAME})
    assert threads[0] == threads[1] == threads[2]
    assert len(threads[0]) == 2


def test_several_loaders_have_pipelines_of_their_own(root: Path, process: Process) -> None:
    one = applied(process)
    small = transforms.Compose([transforms.RandomResizedCrop(24), transforms.ToTensor()])
    loaders = [
        DataLoader(ImageFolder(str(root), transform), 3, shuffle=True)
        for transform in (CROPPED, small)
    ]
    for (images, _labels), (others, _others) in zip(*loaders, strict=True):
        assert images.shape[2:] == (48, 48)
        assert others.shape[2:] == (24, 24)
    assert one.effects == 2


def test_passes_that_are_left_early_leave_nothing_behind(root: Path, process: Process) -> None:
    applied(process)
    loader = DataLoader(ImageFolder(str(root), CROPPED), 2, shuffle=True)
    for number in range(12):
        for place, _batch in enumerate(loader):
            if place == number % 5:
                break
    assert sum(len(labels) for _images, labels in loader) == 18
    assert [one.name for one in threading.enumerate()].count(NAME) == 2


def _failing_at(loader: Any, place: int) -> None:
    for number, _batch in enumerate(loader):
        _ = 1 // (place - number)


def test_an_error_of_the_training_amid_an_epoch_is_its_own(root: Path, process: Process) -> None:
    applied(process)
    loader = DataLoader(ImageFolder(str(root), CROPPED), 2, shuffle=True)
    for _attempt in range(3):
        with pytest.raises(ZeroDivisionError):
            _failing_at(loader, 2)
    assert len(list(loader)) == 9


def test_ranks_whose_script_sets_no_epoch_get_another_order_by_the_other_remedy(
    root: Path, process: Process
) -> None:
    process.apply(
        [
            {"name": "set-epoch", "parameters": {}},
            {"name": "dali-loading", "parameters": {}},
        ]
    )
    data = ImageFolder(str(root), CROPPED)
    data.samples = [(path, number) for number, (path, _label) in enumerate(data.samples)]
    loader = DataLoader(data, 3, sampler=DistributedSampler(data, 2, 0, seed=3))
    weight = torch.zeros(1, requires_grad=True)
    orders = []
    for _epoch in range(2):
        orders.append([int(x) for _images, many in loader for x in many])
        torch.optim.SGD([weight], 0.1).step()  # an epoch is a pass in which something is trained
    assert type(iter(loader)).__name__ == "DaliPass"
    assert orders[0] != orders[1]
