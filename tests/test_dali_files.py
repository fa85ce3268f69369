"""Files that DALI and Pillow would not open alike are opened by the script's own data set."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import dali_cases  # noqa: E402
import numpy as np  # noqa: E402
from dali_cases import folder, picture  # noqa: E402
from PIL import Image, ImageCms  # noqa: E402
from PIL.PngImagePlugin import PngInfo  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Applied, Process  # noqa: E402

PLAIN = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
SHAPE = (96, 80)
applied = partial(dali_cases.applied, validation=True)


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


def web_picture(path: Path) -> None:
    picture(12, SHAPE).save(path, "WEBP", quality=90)


def tagged(path: Path) -> None:
    picture(13, SHAPE).save(path, "TIFF")


def moving(path: Path) -> None:
    frames = [picture(14, SHAPE), picture(15, SHAPE)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def two_colours(path: Path) -> None:
    picture(16, SHAPE).convert("1").save(path, "PNG")


def shades_of_sixteen_bits(path: Path) -> None:
    Image.fromarray(np.arange(80 * 96, dtype=np.uint16).reshape(80, 96) * 8).save(path, "TIFF")


def grey_with_transparency(path: Path) -> None:
    picture(17, SHAPE).convert("LA").save(path, "PNG")


ODD_ONES = {
    "WebP": web_picture,
    "TIFF": tagged,
    "TIFF of 16 bits": shades_of_sixteen_bits,
    "GIF": moving,
    "PNG of one bit": two_colours,
    "grey PNG with transparency": grey_with_transparency,
}
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


def turned_png(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    picture(18, (120, 70)).save(path, "PNG", exif=exif)


def grey_png(path: Path) -> None:
    picture(19, SHAPE).convert("L").save(path, "PNG")


def with_gamma(path: Path) -> None:
    info = PngInfo()
    info.add(b"gAMA", (30_000).to_bytes(4, "big"))
    picture(20, SHAPE).save(path, "PNG", pnginfo=info)


def with_a_profile(path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture(21, SHAPE).save(path, "JPEG", icc_profile=profile)


def with_a_comment(path: Path) -> None:
    picture(22, SHAPE).save(path, "JPEG", comment=bytes(5000))


def restarting(path: Path) -> None:
    picture(23, SHAPE).save(path, "JPEG", restart_marker_rows=1)


def odd_width(path: Path) -> None:
    picture(24, (97, 83)).save(path, "JPEG", quality=60)


def narrow(path: Path) -> None:
    picture(25, (3, 200)).save(path, "JPEG")


USUAL = {
    "EXIF": turned,
    "EXIF in a PNG": turned_png,
    "progressive": progressive,
    "4:4:4": full_colour,
    "grey": grey,
    "grey PNG": grey_png,
    "gamma": with_gamma,
    "colour profile": with_a_profile,
    "a long comment": with_a_comment,
    "restart markers": restarting,
    "odd width": odd_width,
    "narrow": narrow,
}


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


@pytest.mark.parametrize("kind", ODD_ONES)
def test_other_formats_are_the_scripts_own_whatever_they_are_called(
    kind: str, tmp_path: Path, process: Process
) -> None:
    root = folder(tmp_path / "all", kind="jpg")
    ODD_ONES[kind](root / "dog" / "1.jpg")
    bare, found, one = both(root, process)
    assert all(torch.allclose(a[0], b[0], atol=1e-6) for a, b in zip(bare, found, strict=True))
    assert one.effects == 1


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
