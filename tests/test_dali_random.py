"""Random transforms by DALI: the same parameters give the same pixels, and are drawn alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import apart, by_dali, drawn, folder, levels, opened, paths_in, picture  # noqa: E402
from torchvision.transforms import functional as F  # noqa: E402
from torchvision.transforms import transforms as v1  # noqa: E402

from speedprof.mitigations.dali import colours, draws  # noqa: E402
from speedprof.mitigations.dali.pipeline import seed_of  # noqa: E402

MANY = 4000
KOLMOGOROV = 1.95  # of the two-sample test: p = 0.001; seeds are fixed, so a pass stays one
SIZE = (180, 240)  # height, width
SEED = 11


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return paths_in(folder(tmp_path_factory.mktemp("images") / "all", kind="jpg"))


def generator() -> Any:
    return torch.Generator().manual_seed(SEED)


def sizes(count: int = MANY) -> Any:
    return torch.tensor([SIZE] * count)


def alike(one: Any, other: Any) -> bool:
    """Tell whether two samples are of one distribution (Kolmogorov and Smirnov)."""
    one, other = one.double().sort().values, other.double().sort().values
    at = torch.cat([one, other])
    shares = [torch.searchsorted(x, at, right=True).double() / len(x) for x in (one, other)]
    distance = float((shares[0] - shares[1]).abs().max())
    return distance < KOLMOGOROV * math.sqrt((len(one) + len(other)) / (len(one) * len(other)))


def boxes_of(draw: Any) -> Any:
    """Return what torchvision draws, MANY times over."""
    torch.manual_seed(SEED)
    return torch.tensor([draw() for _ in range(MANY)])


@pytest.mark.parametrize("ratio", [(0.75, 4 / 3), (0.2, 0.3), (2.5, 4.0)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_crops_are_drawn_as_torchvision_draws_them(
    scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    image = torch.empty(3, *SIZE)
    theirs = boxes_of(lambda: v1.RandomResizedCrop.get_params(image, list(scale), list(ratio)))
    start, shape = draws.crops(generator(), sizes(), scale, ratio)
    ours = torch.cat([start, shape], dim=1)
    assert all(alike(ours[:, column], theirs[:, column]) for column in range(4))
    assert bool((start >= 0).all())
    assert bool((start + shape <= sizes()).all())


def test_erased_boxes_are_drawn_as_torchvision_draws_them() -> None:
    image = torch.empty(3, *SIZE)
    scale, ratio = (0.02, 0.33), (0.3, 3.3)
    theirs = boxes_of(
        lambda: v1.RandomErasing.get_params(image, list(scale), list(ratio), [0.0])[:4]
    )
    start, shape = draws.erasures(generator(), sizes(), scale, ratio)
    ours = torch.cat([start, shape], dim=1)
    assert all(alike(ours[:, column], theirs[:, column]) for column in range(4))


def test_corners_of_a_crop_are_drawn_evenly_to_the_last() -> None:
    found = draws.below(generator(), torch.full((MANY,), 4))
    assert sorted(set(found.tolist())) == [0, 1, 2, 3, 4]
    assert alike(found, torch.arange(MANY) % 5)


def test_chances_are_as_often_as_asked() -> None:
    happened = draws.chance(generator(), MANY, 0.3).double().mean()
    assert abs(float(happened) - 0.3) < 4 * math.sqrt(0.21 / MANY)
    assert int(draws.chance(generator(), 50, 1.0).sum()) == 50
    assert int(draws.chance(generator(), 50, 0.0).sum()) == 0


def test_every_order_of_four_steps_comes_as_often() -> None:
    orders = draws.order(generator(), MANY, 4)
    kinds = (orders * torch.tensor([64, 16, 4, 1])).sum(dim=1).unique(return_counts=True)[1]
    assert len(kinds) == 24
    expected = MANY / 24
    squares = float(((kinds - expected) ** 2 / expected).sum())
    assert squares < 49.7  # chi-squared with 23 degrees of freedom, p = 0.001


def test_a_crop_with_the_same_box_has_the_same_pixels(paths: list[str]) -> None:
    chain = v1.Compose([v1.RandomResizedCrop(64), v1.ToTensor()])
    given = drawn(chain, paths)
    theirs = torch.stack(
        [
            F.to_tensor(F.resized_crop(opened(path), *start.tolist(), *shape.tolist(), [64, 64]))
            for path, start, shape in zip(paths, given["0_start"], given["0_shape"], strict=True)
        ]
    )
    found = apart(by_dali(chain, paths), theirs)
    assert float(found.mean()) < 0.6
    assert float(found[int(0.99 * len(found))]) <= 1.001
    assert float(found[-1]) < 20  # along the edge of what was decoded colour is not interpolated


def test_flips_are_where_they_were_drawn(paths: list[str]) -> None:
    chain = v1.Compose(
        [v1.CenterCrop(64), v1.RandomHorizontalFlip(), v1.RandomVerticalFlip(), v1.ToTensor()]
    )
    given = drawn(chain, paths)
    theirs = []
    for place, path in enumerate(paths):
        image = F.to_tensor(F.center_crop(opened(path), [64, 64]))
        image = F.hflip(image) if given["1_flags"][place] else image
        theirs.append(F.vflip(image) if given["2_flags"][place] else image)
    assert torch.allclose(by_dali(chain, paths), torch.stack(theirs), atol=1e-6)
    assert len(set(given["1_flags"].tolist())) == 2


def test_a_padded_crop_has_the_same_pixels_and_frame(paths: list[str]) -> None:
    chain = v1.Compose([v1.CenterCrop(60), v1.RandomCrop(64, padding=8, fill=70), v1.ToTensor()])
    start = drawn(chain, paths)["1_start"] + 8
    theirs = torch.stack(
        [
            F.to_tensor(
                F.crop(F.pad(F.center_crop(opened(path), [60, 60]), [8], 70), *at.tolist(), 64, 64)
            )
            for path, at in zip(paths, start, strict=True)
        ]
    )
    assert torch.allclose(by_dali(chain, paths), theirs, atol=1e-6)


# In levels: the mean, what 99 of 100 keep to, and all. Pillow cuts off what follows the point
# after each of the four steps; only clipping in between is left out by DALI's formula.
JITTERED = {
    "tensors, nothing clipped": (True, False, (0.02, 0.05, 0.05)),
    "tensors with black and white": (True, True, (0.6, 16.0, 255.0)),
    "PIL, nothing clipped": (False, False, (2.0, 5.0, 10.0)),
    "PIL with black and white": (False, True, (2.5, 16.0, 255.0)),
}


@pytest.mark.parametrize(("tensors", "harsh", "most"), JITTERED.values(), ids=JITTERED)
def test_jitter_in_any_order_has_torchvisions_pixels(
    tensors: bool, harsh: bool, most: tuple[float, float, float], tmp_path: Path
) -> None:
    many = [str(square(tmp_path, number, harsh)) for number in range(24)]
    jitter = v1.ColorJitter(0.2, 0.2, 0.2, 0.05)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    random = generator()  # as the first step of a chain finds it
    order = draws.order(random, len(many), 4)
    factors = [draws.uniform(random, (len(many),), one) for one in ranges]
    theirs = torch.stack(
        [
            jittered(path, order[n], [float(f[n]) for f in factors], tensors)
            for n, path in enumerate(many)
        ]
    )
    found = apart(by_dali(v1.Compose([jitter, v1.ToTensor()]), many, seed=SEED), theirs)
    mean, nearly_all, largest = most
    assert float(found.mean()) < mean
    assert float(found[int(0.99 * len(found))]) < nearly_all
    assert float(found[-1]) <= largest


def square(folder: Path, number: int, harsh: bool) -> Path:
    """Write a picture, with levels from 0 to 255 or far from both."""
    image = picture(number, (64, 64))
    path = folder / f"{number}.png"
    (image if harsh else image.point(lambda level: 70 + 0.4 * level)).save(path)
    return path


def jittered(path: str, order: Any, factors: list[float], tensors: bool) -> Any:
    image = F.to_tensor(opened(path)) if tensors else opened(path)
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for kind in order.tolist():
        image = steps[kind](image, factors[kind])
    return image if tensors else F.to_tensor(image)


def test_the_mixture_without_hue_is_that_of_the_steps_one_by_one() -> None:
    """Pixels far from black and white, where nothing is clipped: exact but for rounding."""
    image = torch.rand(3, 9, 9, dtype=torch.float64) * 0.2 + 0.4
    order = torch.tensor([[1, 0, 2, 3], [2, 1, 0, 3], [0, 1, 2, 3], [3, 2, 1, 0]])
    factors = [torch.full((4,), value, dtype=torch.float64) for value in (1.1, 0.8, 1.3, 0.0)]
    mixed = colours.mixture(order, factors)
    grey = F.rgb_to_grayscale(image)
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for sample in range(4):
        wanted = image
        for kind in order[sample].tolist():
            wanted = steps[kind](wanted, float(factors[kind][0])) if kind < 3 else wanted
        a, b, c, d, e = (float(mixed[name][sample]) for name in "abcde")
        found = a * image + (b + c) * grey + (d + e) * grey.mean()
        assert torch.allclose(found, wanted, atol=2e-4)


def test_erased_boxes_are_where_they_were_drawn(paths: list[str]) -> None:
    chain = v1.Compose(
        [v1.CenterCrop(64), v1.ToTensor(), v1.RandomErasing(p=0.7, value=(0.1, 0.2, 0.3))]
    )
    given = drawn(chain, paths)
    made = by_dali(chain, paths)
    erased = 0
    for place, path in enumerate(paths):
        wanted = F.to_tensor(F.center_crop(opened(path), [64, 64]))
        top, left = given["2_start"][place].int().tolist()
        height, width = given["2_shape"][place].int().tolist()
        value = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
        wanted = F.erase(wanted, top, left, height, width, value) if height else wanted
        assert torch.allclose(made[place], wanted, atol=1e-6)
        erased += height > 0
    assert 0 < erased < len(paths)


def test_grey_comes_to_those_that_were_drawn(paths: list[str]) -> None:
    chain = v1.Compose([v1.CenterCrop(64), v1.RandomGrayscale(0.5), v1.ToTensor()])
    flags = drawn(chain, paths)["1_flags"]
    made = levels(by_dali(chain, paths))
    flat = (made.amax(dim=1) - made.amin(dim=1)).flatten(1).amax(dim=1) < 1e-3
    assert flat.tolist() == [bool(flag) for flag in flags]
    assert 0 < int(flags.sum()) < len(paths)


def test_batches_of_neighbouring_numbers_draw_nothing_alike() -> None:
    seeds = [seed_of(epoch, batch) for epoch in range(40) for batch in range(100)]
    assert len(set(seeds)) == len(seeds)
    first = torch.tensor(
        [float(torch.rand(1, generator=torch.Generator().manual_seed(seed))) for seed in seeds]
    )
    assert alike(first, (torch.arange(MANY) + 0.5) / MANY)


def test_the_mean_colour_over_many_crops_is_torchvisions(paths: list[str], tmp_path: Path) -> None:
    """The whole chain of the image example, as its distribution of mean levels."""
    chain = v1.Compose(
        [
            v1.RandomResizedCrop(32, scale=(0.5, 1.0)),
            v1.RandomHorizontalFlip(),
            v1.ColorJitter(0.2, 0.2, 0.2, 0.05),
            v1.ToTensor(),
        ]
    )
    one = paths[:1] * 600
    torch.manual_seed(SEED)
    image = opened(one[0])
    theirs = torch.stack([chain(image) for _ in one])
    ours = by_dali(chain, one)
    for channel in range(3):
        for measure in (torch.mean, torch.std):
            found = [torch.stack([measure(x[channel]) for x in batch]) for batch in (ours, theirs)]
            assert alike(*found)
