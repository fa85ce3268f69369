"""What DALI makes of each transform without chance, against torchvision's own pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import apart, by_dali, by_torchvision, folder, paths_in  # noqa: E402
from torchvision.transforms import InterpolationMode, v2  # noqa: E402
from torchvision.transforms import transforms as v1  # noqa: E402

NEAREST, BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR
BICUBIC, LANCZOS = InterpolationMode.BICUBIC, InterpolationMode.LANCZOS
COLOURS = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def pil(*transforms: Any) -> Any:
    return v1.Compose([*transforms, v1.ToTensor()])


def cut(*transforms: Any) -> Any:
    return pil(v1.CenterCrop((150, 120)), *transforms)


def tensors(*transforms: Any) -> Any:
    return v2.Compose([v2.ToImage(), *transforms, v2.ToDtype(torch.float32, scale=True)])


def floats(*transforms: Any) -> Any:
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), *transforms])


# In grey levels of 255: the mean, what 99 of 100 pixels keep to, and what all keep to. Where an
# image is resized or mixed, rounding differs by a level; more is explained beside the case.
BIT_EQUAL, ROUNDED, SEAMS = (0.0, 0.0, 0.0), (0.6, 1.0, 4.0), (1.0, 20.0, 255.0)
FLOATS = (0.1, 0.4, 2.0)
MIXED = (0.6, 1.5, 1.5)  # torchvision rounds the mean grey, and after each step
CASES = {
    "centre crop": (cut(), BIT_EQUAL),
    "centre crop larger than the image": (pil(v1.CenterCrop((310, 350))), BIT_EQUAL),
    "bytes": (v1.Compose([v1.CenterCrop(150), v1.PILToTensor()]), BIT_EQUAL),
    "normalise": (pil(v1.CenterCrop(150)), BIT_EQUAL),
    "resize": (pil(v1.Resize((112, 90))), ROUNDED),
    "resize the shorter side": (pil(v1.Resize(160), v1.CenterCrop(150)), ROUNDED),
    "resize up to a most": (pil(v1.Resize(160, max_size=200), v1.CenterCrop(100)), ROUNDED),
    "enlarge": (pil(v1.Resize((400, 500))), ROUNDED),
    "bicubic": (pil(v1.Resize((112, 90), BICUBIC)), ROUNDED),
    "lanczos": (pil(v1.Resize((112, 90), LANCZOS)), ROUNDED),
    # a few pixels lie between two others, and either may be the nearest
    "nearest": (pil(v1.Resize((112, 90), NEAREST)), (1.0, 25.0, 255.0)),
    "resize tensors": (tensors(v2.Resize((112, 90))), ROUNDED),
    "resize tensors without antialias": (
        tensors(v2.Resize((112, 90), antialias=False)),
        ROUNDED,
    ),
    "resize tensors bicubic": (tensors(v2.Resize((112, 90), BICUBIC)), ROUNDED),
    "resize floats": (floats(v2.Resize((112, 90))), FLOATS),
    "grey of three channels": (cut(v1.Grayscale(3)), MIXED),
    "grey of one channel": (cut(v1.Grayscale(1)), MIXED),
    "blur": (cut(v1.GaussianBlur((9, 3), (2.3, 2.3))), (0.01, 0.0, 1.0)),
    "turn": (cut(v1.RandomRotation((30, 30))), (0.05, 0.0, 255.0)),
    "turn by a right angle": (pil(v1.CenterCrop(150), v1.RandomRotation((90, 90))), BIT_EQUAL),
    # along the image's border Pillow mixes nothing with the fill, DALI does
    "turn, bilinear": (cut(v1.RandomRotation((30, 30), BILINEAR, fill=90)), SEAMS),
    "lean": (
        cut(v1.RandomAffine((20, 20), scale=(1.2, 1.2), shear=(5, 5, 8, 8))),
        (0.05, 0.0, 255.0),
    ),
    "turn tensors": (tensors(v2.CenterCrop(150), v2.RandomRotation((30, 30), BILINEAR)), SEAMS),
    "brighter": (cut(v1.ColorJitter((1.3, 1.3))), MIXED),
    "darker": (cut(v1.ColorJitter((0.7, 0.7))), MIXED),
    "more contrast": (cut(v1.ColorJitter(contrast=(1.4, 1.4))), MIXED),
    "less contrast": (cut(v1.ColorJitter(contrast=(0.6, 0.6))), MIXED),
    "more colour": (cut(v1.ColorJitter(saturation=(1.4, 1.4))), MIXED),
    "less colour": (cut(v1.ColorJitter(saturation=(0.4, 0.4))), MIXED),
    # Pillow keeps hue, saturation and value in eight bits each
    "hue": (cut(v1.ColorJitter(hue=(0.2, 0.2))), (1.5, 8.0, 16.0)),
    "hue of tensors": (
        tensors(v2.CenterCrop(150), v2.ColorJitter(hue=(-0.4, -0.4))),
        MIXED,
    ),
    "darker floats": (floats(v2.Resize((90, 90)), v2.ColorJitter((0.7, 0.7))), FLOATS),
    "hue of floats": (
        floats(v2.Resize((90, 90)), v2.ColorJitter(hue=(0.2, 0.2))),
        (0.1, 0.5, 2.0),
    ),
}


@pytest.fixture(scope="module", params=["png", "jpg"])
def paths(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return paths_in(folder(tmp_path_factory.mktemp("images") / "all", kind=request.param))


@pytest.mark.parametrize(("transform", "most"), CASES.values(), ids=CASES)
def test_pixels_are_torchvisions(
    transform: Any, most: tuple[float, float, float], paths: list[str]
) -> None:
    found = apart(by_dali(transform, paths), by_torchvision(transform, paths))
    tiny = 1e-4  # of a level: floats
    mean, nearly_all, largest = (limit + tiny for limit in most)
    assert float(found.mean()) <= mean
    assert float(found[int(0.99 * len(found))]) <= nearly_all
    assert float(found[-1]) <= largest


def test_normalised_images_differ_by_rounding_of_floats_only(paths: list[str]) -> None:
    transform = v1.Compose([v1.CenterCrop(150), v1.ToTensor(), v1.Normalize(*COLOURS)])
    one, other = by_dali(transform, paths), by_torchvision(transform, paths)
    assert torch.allclose(one, other, atol=1e-5, rtol=0)


def test_pretrained_weights_own_transform_is_followed(paths: list[str]) -> None:
    from torchvision.transforms._presets import ImageClassification

    transform = ImageClassification(crop_size=96, resize_size=112)
    one, other = by_dali(transform, paths), by_torchvision(transform, paths)
    assert float((one - other).abs().max()) <= 2 / 255 / 0.224


def test_grey_files_become_three_equal_channels(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "grey.jpg"
    Image.linear_gradient("L").save(path)
    made = by_dali(pil(), [str(path)])
    assert float(apart(made, by_torchvision(pil(), [str(path)]))[-1]) < 1e-4
    assert torch.equal(made[:, 0], made[:, 2])
