"""Files that DALI and Pillow would not open alike are opened by the script's own data set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import numpy as np  # noqa: E402
from dali_cases import folder, picture  # noqa: E402
from PIL import Image, UnidentifiedImageError  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Applied, Process  # noqa: E402
from speedprof.profiler.fence import Fence  # noqa: E402

PLAIN = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
SHAPE = (96, 80)


@pytest.fixture
def process() -> Iterator[Process]:
    failures: list[str] = []
    made = Process(Fence(failures.append), {})
    yield made
    assert made.undo() == []
    assert failures == []


def applied(process: Process) -> Applied:
    process.apply([{"name": "dali-loading", "parameters": {"validation": True}}])
    return process.applied[-1]


def cmyk(path: Path) -> None:
    picture(1, SHAPE).convert("CMYK").save(path, "JPEG")


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.arange(80 * 96, dtype=np.uint16).reshape(80, 96) * 8).save(path, "PNG")


def palette(path: Path) -> None:
    picture(2, SHAPE).quantize(200).save(path, "PNG", transparency=3)


def transparent(path: Path) -> None:
    picture(3, SHAPE).convert("RGBA").save(path, "PNG")


def bitmap(path: Path) -> None:
    picture(4, SHAPE).save(path, "BMP")


def red_green_blue(path: Path) -> None:
    picture(5, SHAPE).save(path, "JPEG", keep_rgb=True)


ODD = {
    "CMYK JPEG": cmyk,
    "PNG of 16 bits": sixteen_bits,
    "PNG with a palette or": palette,
    "a palette or transparency": transparent,
    "neither JPEG nor PNG": bitmap,
    "colours other than YCbCr": red_green_blue,
}


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    picture(6, (120, 70)).save(path, "JPEG", exif=exif)


def progressive(path: Path) -> None:
    picture(7, SHAPE).save(path, "JPEG", progressive=True, subsampling=1)


def full_colour(path: Path) -> None:
    picture(8, SHAPE).save(path, "JPEG", subsampling=0)


def grey(path: Path) -> None:
    picture(9, SHAPE).convert("L").save(path, "JPEG")


def two_pictures(path: Path) -> None:
    picture(10, SHAPE).save(path, "MPO", save_all=True, append_images=[picture(11, SHAPE)])


USUAL = {"EXIF": turned, "progressive": progressive, "4:4:4": full_colour, "grey": grey}


def both(root: Path, process: Process) -> tuple[list[Any], list[Any], Applied]:
    """Return the batches of the script's loader, and those by DALI."""
    loader = DataLoader(ImageFolder(str(root), PLAIN), 4)
    bare = list(loader)
    one = applied(process)
    return bare, list(loader), one


@pytest.mark.parametrize("why", ODD)
def test_an_odd_file_is_one_sample_of_the_scripts_own(
    why: str, tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    ODD[why](root / "dog" / "1.jpg")
    bare, found, one = both(root, process)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(bare, found, strict=True))
    assert all(torch.allclose(a[0], b[0], atol=1e-6) for a, b in zip(bare, found, strict=True))
    assert one.effects == 1
    assert any(why in note for note in one.notes)


@pytest.mark.parametrize("kind", USUAL)
def test_a_usual_variety_of_jpeg_is_made_by_dali_with_the_same_pixels(
    kind: str, tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    USUAL[kind](root / "dog" / "1.jpg")
    bare, found, one = both(root, process)
    assert all(torch.allclose(a[0], b[0], atol=1e-6) for a, b in zip(bare, found, strict=True))
    assert len(one.notes) == 1


def test_a_file_of_two_pictures_shows_its_first(tmp_path: Path, process: Process) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    two_pictures(root / "dog" / "1.jpg")
    bare, found, _one = both(root, process)
    assert all(torch.allclose(a[0], b[0], atol=1e-6) for a, b in zip(bare, found, strict=True))


def text(path: Path) -> None:
    path.write_text("not an image")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-900])


BROKEN = {"text": text, "empty": empty, "truncated": truncated}


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


def test_headers_say_the_size_of_what_pillow_opens(tmp_path: Path) -> None:
    from speedprof.mitigations.dali.headers import Size, look

    for number, (kind, write) in enumerate(USUAL.items()):
        path = tmp_path / f"{number}.jpg"
        write(path)
        with Image.open(path) as opened:
            width, height = opened.size
        assert look(path.read_bytes()) == Size(height, width), kind


def test_a_header_that_ends_early_is_no_surprise(tmp_path: Path) -> None:
    from speedprof.mitigations.dali.headers import Odd, look

    path = tmp_path / "whole.jpg"
    full_colour(path)
    whole = path.read_bytes()
    frame = whole.index(b"\xff\xc0")
    for end in range(frame + 9):
        assert isinstance(look(whole[:end]), Odd)
        assert isinstance(look(whole[:end] + b"\xff\xd9"), Odd)


def test_what_copies_of_files_hold_is_all_that_counts(tmp_path: Path, process: Process) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    shutil.copy(root / "cat" / "0.jpg", root / "dog" / "0.jpg")
    bare, found, _one = both(root, process)
    assert torch.allclose(bare[0][0], found[0][0], atol=1e-6)
