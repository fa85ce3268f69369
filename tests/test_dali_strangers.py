"""Loaders as strangers build them: whatever theirs does, batches and errors come as by torch."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import applied, folder, picture  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import (  # noqa: E402
    DataLoader,
    IterableDataset,
    Sampler,
    SequentialSampler,
    Subset,
)
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.dali.batches import Batch, Read  # noqa: E402
from speedprof.mitigations.dali.datasets import Files  # noqa: E402
from speedprof.mitigations.dali.engine import NAME, Engine  # noqa: E402
from speedprof.mitigations.dali.loader import Making, Supply, own_fetcher  # noqa: E402
from speedprof.mitigations.dali.pipeline import Recipe  # noqa: E402
from speedprof.mitigations.dali.translation import translate  # noqa: E402
from speedprof.profiler.fence import Fence  # noqa: E402

PLAIN = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
CROPPED = transforms.Compose([transforms.RandomResizedCrop(48), transforms.ToTensor()])


def seen(loader: Any) -> list[Any]:
    """Return the labels of all batches, and the errors among them."""
    iterator, found = iter(loader), []
    while len(found) < 20:
        try:
            found.append(next(iterator)[1].tolist())
        except StopIteration:  # noqa: PERF203
            return found
        except (LookupError, ValueError, TypeError) as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


class Breaking(Sampler[int]):  # type: ignore[misc]
    """Raises amid a pass, as samplers do that read a file or wait for another rank."""

    def __iter__(self) -> Iterator[int]:
        yield from range(10)
        raise ValueError("the list of indices ends here")


class Recovering:
    """Lists of indices from an iterator of its own, which raises once and goes on."""

    batch_size = 2

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Iterator[list[int]]:
        return self

    def __next__(self) -> list[int]:
        self.at += 1
        if self.at == 3:
            raise LookupError("the third is missing")
        if self.at > 6:
            raise StopIteration
        return [self.at, self.at + 1]


def odd_loaders(data: Any) -> dict[str, Any]:
    return {
        "a sampler that raises": DataLoader(data, 2, sampler=Breaking()),
        "a sampler that goes on": DataLoader(data, batch_sampler=Recovering()),
        "an index too large": DataLoader(Subset(data, [0, 1, 2, 3, 4, 99, 5, 6, 7, 8]), 2),
        "an index of another type": DataLoader(data, 2, sampler=[0, 1, 2, 3, "4", 5, 6, 7, 8]),
        "no list of indices": DataLoader(data, batch_sampler=SizedList([[0, 1], 5, [2, 3]])),
        "an empty batch": DataLoader(data, batch_sampler=SizedList([[0, 1], [], [2, 3]])),
        "batches of all sizes": DataLoader(data, batch_sampler=SizedList([[0], [1] * 9, [2] * 5])),
    }


class SizedList(list[Any]):
    batch_size = 2


@pytest.mark.parametrize("kind", odd_loaders([0]))
def test_batches_and_errors_come_in_torchs_order(kind: str, root: Path, process: Process) -> None:
    data = ImageFolder(str(root), PLAIN)
    data.samples = [(path, number) for number, (path, _label) in enumerate(data.samples)]
    bare = seen(odd_loaders(data)[kind])
    one = applied(process, validation=True)
    assert seen(odd_loaders(data)[kind]) == bare
    assert one.effects == 1


def test_batches_larger_than_the_sampler_says_are_dalis(root: Path, process: Process) -> None:
    one = applied(process, validation=True)
    data = ImageFolder(str(root), PLAIN)
    loader = DataLoader(data, batch_sampler=SizedList([[0], list(range(9)), list(range(5))]))
    assert [len(labels) for _images, labels in loader] == [1, 9, 5]
    assert len(one.notes) == 1, one.notes


class Stream(IterableDataset):  # type: ignore[misc]
    def __iter__(self) -> Iterator[int]:
        yield from range(4)


class Unsized:
    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize("kind", ["a stream", "no length"])
def test_a_loader_without_a_length_stays_and_the_others_are_dalis(
    kind: str, root: Path, process: Process
) -> None:
    one = applied(process)
    stream = DataLoader(Stream(), 2)
    unsized = DataLoader(Unsized(), 2, sampler=range(4))
    strange = {"a stream": stream, "no length": unsized}[kind]
    assert [batch.tolist() for batch in strange] == [[0, 1], [2, 3]]
    assert "stays as it is" in one.notes[0]
    assert len(list(DataLoader(ImageFolder(str(root), CROPPED), 9, shuffle=True))) == 2
    assert one.effects == 1


def test_a_loader_that_makes_its_passes_itself_keeps_them(root: Path, process: Process) -> None:
    class Doubling(DataLoader):  # type: ignore[misc]
        def _get_iterator(self) -> Any:
            return ((2 * images, labels) for images, labels in super()._get_iterator())

    data = ImageFolder(str(root), PLAIN)
    (bare, *_rest) = Doubling(data, 4)
    one = applied(process, validation=True)
    (found, *_rest) = Doubling(data, 4)
    assert torch.equal(found[0], bare[0])
    assert "Doubling makes its passes itself" in one.notes[0]


def test_persistent_workers_draw_anew_in_each_epoch(root: Path, process: Process) -> None:
    """Such a loader draws no seed for a second pass, and an order of its own draws nothing."""
    one = applied(process)
    data = ImageFolder(str(root), CROPPED)

    def passes(count: int) -> list[Any]:
        torch.manual_seed(1)
        how = {"num_workers": 1, "persistent_workers": True}
        loader = DataLoader(data, 18, sampler=SequentialSampler(data), **how)
        return [images for _epoch in range(count) for images, _labels in loader]

    first = passes(4)
    assert len({images.sum().item() for images in first}) == 4
    assert all(torch.equal(a, b) for a, b in zip(passes(4), first, strict=True))
    assert one.effects == 2


def test_a_folder_of_other_files_keeps_its_workers(tmp_path: Path, process: Process) -> None:
    (tmp_path / "one").mkdir()
    for number in range(12):
        kind = "jpg" if number < 4 else "webp"
        picture(number, (90, 80)).save(tmp_path / "one" / f"{number:02}.{kind}")
    one = applied(process)
    loader = DataLoader(ImageFolder(str(tmp_path), CROPPED), 4, shuffle=True)
    for _epoch in range(2):
        assert sum(len(labels) for _images, labels in loader) == 12
    assert one.effects == 0
    assert one.notes == [
        (
            "the loader of ImageFolder (12 samples) stays as it is: most of its files are not "
            "for DALI: neither JPEG nor PNG"
        )
    ]


def test_an_odd_file_does_not_keep_dali_from_cropping_the_others(
    tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    picture(1, (96, 96)).convert("CMYK").save(root / "dog" / "1.jpg")
    chain = transforms.Compose([transforms.RandomCrop(72), transforms.ToTensor()])
    one = applied(process)
    loader = DataLoader(ImageFolder(str(root), chain), 12, shuffle=True)
    for _epoch in range(4):
        assert [images.shape for images, _labels in loader] == [(12, 3, 72, 72)]
    assert not any("a batch is made by" in note for note in one.notes), one.notes


def test_the_scripts_own_limit_of_pixels_is_kept(
    root: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(process)
    loader = DataLoader(ImageFolder(str(root), CROPPED), 9, shuffle=True)
    assert len(list(loader)) == 2
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        list(loader)


def test_an_error_of_ours_amid_a_batch_with_odd_files_costs_no_batch(root: Path) -> None:
    def failing(batch: Batch, _pool: Any) -> Read:
        batch.odd[1] = "a file of another kind"
        raise AssertionError("ours")

    told: list[str] = []
    data = ImageFolder(str(root), PLAIN)
    chain = translate(PLAIN).chain
    assert chain is not None
    engine = Engine(Recipe(chain, None, 1, 3), 1, Fence(told.append).guard)
    making = Making(
        engine=engine, data=Files(data, (PLAIN,), failing), ahead=2, again=0, note=told.append,
        give_up=lambda: told.append("given up"),
    )  # fmt: skip
    supply = Supply(making, own_fetcher(DataLoader(data, 3)), seed=1)
    order = iter([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    for first in (0, 3, 6):
        images, labels = supply.take(lambda: next(order))
        assert torch.equal(images[1], data[first + 1][0])
        assert labels.tolist() == data.targets[first : first + 3]
    engine.close()
    assert "AssertionError: ours" in told[0]
    assert "given up" in told


def test_loaders_built_anew_for_each_epoch_leave_no_threads(root: Path, process: Process) -> None:
    applied(process)
    data = ImageFolder(str(root), CROPPED)
    for size in (2, 9):  # so that the sampler ends, or does not
        for _epoch in range(3):
            for _batch in DataLoader(data, size, shuffle=True):
                break
    gc.collect()
    assert [one.name for one in threading.enumerate()].count(NAME) == 0


def test_a_loader_of_images_that_the_script_put_in_torchvisions_place_opens_them(
    root: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upside_down(path: str) -> Any:
        return Image.open(path).convert("RGB").rotate(180)

    monkeypatch.setattr("torchvision.datasets.folder.pil_loader", upside_down)
    loader = DataLoader(ImageFolder(str(root), PLAIN), 6)
    bare = [images for images, _labels in loader]
    applied(process, validation=True)
    found = [images for images, _labels in loader]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, bare, strict=True))
