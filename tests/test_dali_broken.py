"""Broken files under DALI: the sample is skipped or the error raised as torchvision would."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import dali_cases  # noqa: E402
from dali_cases import folder, picture  # noqa: E402
from PIL import Image, UnidentifiedImageError  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Applied, Process  # noqa: E402
from speedprof.mitigations.dali.batches import batch_of  # noqa: E402
from speedprof.mitigations.dali.engine import Lane  # noqa: E402
from speedprof.mitigations.dali.pipeline import Recipe  # noqa: E402
from speedprof.mitigations.dali.translation import translate  # noqa: E402

PLAIN = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
applied = partial(dali_cases.applied, validation=True)


def both(root: Path, process: Process) -> tuple[list[Any], list[Any], Applied]:
    """Return the batches of the script's loader, and those by DALI."""
    loader = DataLoader(ImageFolder(str(root), PLAIN), 4)
    bare = list(loader)
    one = applied(process)
    return bare, list(loader), one


def text(path: Path) -> None:
    path.write_text("not an image")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-900])


def not_an_image(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))


def only_a_start(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0")


BROKEN = {
    "text": text,
    "empty": empty,
    "truncated": truncated,
    "a PNG without chunks": not_an_image,
    "a start alone": only_a_start,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_raises_what_torchvision_raises_and_the_rest_comes(
    kind: str, tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    BROKEN[kind](root / "dog" / "1.jpg")  # sample 5, of the second batch
    loader = DataLoader(ImageFolder(str(root), PLAIN), 4)
    with pytest.raises((OSError, UnidentifiedImageError)) as bare:
        list(loader)
    applied(process)
    iterator = iter(loader)
    first = next(iterator)
    with pytest.raises(type(bare.value)) as raised:
        next(iterator)
    assert str(raised.value) == str(bare.value)
    last = next(iterator)
    assert len(first[1]) + len(last[1]) == 8
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_file_that_is_gone_raises_what_torchvision_raises(
    tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    loader = DataLoader(ImageFolder(str(root), PLAIN), 4)
    applied(process)
    (root / "cat" / "2.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        next(iter(loader))


def scrambled(path: Path) -> None:
    """Spoil a JPEG in its middle; Pillow decodes it without a word, grey or in odd colours."""
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 40] = bytes(range(40))
    path.write_bytes(bytes(whole))


def test_a_jpeg_with_damaged_content_is_what_pillow_makes_of_it(
    tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    scrambled(root / "dog" / "1.jpg")
    bare, found, _one = both(root, process)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(bare, found, strict=True))
    assert all(torch.allclose(a[0], b[0], atol=1e-6) for a, b in zip(bare, found, strict=True))


def test_a_folder_with_other_files_among_the_images_has_torchvisions_samples(
    tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / "Thumbs.db").write_bytes(bytes(9))
    (root / "stray.txt").write_text("no class")
    bare, found, one = both(root, process)
    assert sum(len(labels) for _images, labels in found) == 12
    assert all(torch.equal(a[1], b[1]) for a, b in zip(bare, found, strict=True))
    assert len(one.notes) == 1


def test_samples_that_a_script_skips_are_skipped(tmp_path: Path, process: Process) -> None:
    """A data set of the script's own that goes on to the next sample where one is broken."""

    class Skipping(ImageFolder):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            try:
                return super().__getitem__(index)
            except OSError:
                return self[(index + 1) % len(self)]

    root = folder(tmp_path / "all", kind="jpg")
    text(root / "dog" / "1.jpg")
    loader = DataLoader(Skipping(str(root), PLAIN), 4)
    bare = list(loader)
    applied(process)
    found = list(loader)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(bare, found, strict=True))
    assert all(torch.allclose(a[0], b[0], atol=1e-6) for a, b in zip(bare, found, strict=True))


def damaged(path: Path) -> None:
    """Spoil a PNG in its middle: its header and its end are as they should be."""
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 200] = bytes(200)
    path.write_bytes(bytes(whole))


def test_a_batch_that_dali_cannot_decode_is_the_scripts_and_the_next_is_dalis(
    tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="png")
    damaged(root / "dog" / "1.png")
    loader = DataLoader(ImageFolder(str(root), PLAIN), 4)
    one = applied(process)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises((OSError, SyntaxError)):  # Pillow's own
        next(iterator)
    assert len(next(iterator)[1]) == 4
    assert any("a batch is made by the script's own data set" in note for note in one.notes)


def test_images_too_small_for_a_crop_raise_as_torchvision_does_and_no_other_is_lost(
    tmp_path: Path, process: Process
) -> None:
    root = tmp_path / "all"
    for number in range(12):
        (root / "one").mkdir(parents=True, exist_ok=True)
        picture(number, (70 + number, 90)).save(root / "one" / f"{number:02}.jpg")
    transform = transforms.Compose([transforms.RandomCrop(72), transforms.ToTensor()])
    data = ImageFolder(str(root), transform)
    one = applied(process)
    loader = DataLoader(data, 1)
    iterator = iter(loader)
    for _too_narrow in range(2):
        with pytest.raises(ValueError, match="Required crop size"):
            next(iterator)
    assert [images.shape[2:] for images, _labels in iterator] == [(72, 72)] * 10
    assert any("Required crop size" in note for note in one.notes)


def test_samples_of_several_sizes_raise_as_torch_does(tmp_path: Path, process: Process) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    data = ImageFolder(str(root), transforms.Compose([transforms.ToTensor()]))
    applied(process)
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        next(iter(DataLoader(data, 4)))


DAMAGES = ("flipped bits", "zeros", "missing bytes", "a flipped bit of the header")


def spoilt(number: int, how: str) -> bytes:
    """Return an image file with damage at random places behind its header, or in it."""
    random = Random(number)
    held = io.BytesIO()
    kind = "PNG" if number % 5 == 0 else "JPEG"
    options = {"quality": 90, "progressive": number % 3 == 0} if kind == "JPEG" else {}
    picture(number, (160, 120)).save(held, kind, **options)
    data = bytearray(held.getvalue())
    at = random.randrange(700, len(data) - 300)
    if how == "flipped bits":
        data[at] ^= 1 << random.randrange(8)
    elif how == "zeros":
        data[at : at + 80] = bytes(80)
    elif how == "missing bytes":
        del data[at : at + 200]
    else:
        data[random.randrange(2, 620)] ^= 1 << random.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("how", DAMAGES)
def test_whatever_is_damaged_dalis_pixels_are_pillows_or_not_used(
    how: str, tmp_path: Path
) -> None:
    chain = translate(PLAIN).chain
    assert chain is not None
    lane = Lane(Recipe(chain, None, 1, 1))
    used = 0
    for number in range(20):
        path = tmp_path / f"{number}.img"
        path.write_bytes(spoilt(number, how))
        batch = batch_of([str(path)], 0, number)
        lane.make(batch)
        if batch.images is not None:
            used += 1
            with Image.open(path) as image:  # Pillow opens what DALI opened
                wanted = PLAIN(image.convert("RGB"))
            assert torch.allclose(batch.images[0], wanted, atol=1e-6)
    assert used > 0
