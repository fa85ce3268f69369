"""RandomApply, RandomChoice and RandomOrder by DALI: who goes through what, and in which order."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import apart, by_dali, drawn, opened  # noqa: E402
from torchvision.transforms import functional as F  # noqa: E402
from torchvision.transforms import transforms as v1  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from speedprof.mitigations.dali.translation import translate  # noqa: E402

MANY = 3000


def cut(*transforms: Any) -> Any:
    return v1.Compose([v1.CenterCrop(64), *transforms, v1.ToTensor()])


def squares(paths: list[str]) -> list[Any]:
    return [F.center_crop(opened(path), [64, 64]) for path in paths]


def stacked(images: list[Any]) -> Any:
    return torch.stack([F.to_tensor(image) for image in images])


@pytest.mark.parametrize("version", [v1, v2])
def test_random_apply_changes_those_that_were_drawn(version: Any, paths: list[str]) -> None:
    chain = cut(version.RandomApply([v1.GaussianBlur(5, (2.0, 2.0)), v1.RandomInvert(1.0)], 0.5))
    flags = drawn(chain, paths)["1_on"]
    theirs = [
        F.invert(F.gaussian_blur(image, [5, 5], [2.0, 2.0])) if flag else image
        for image, flag in zip(squares(paths), flags, strict=True)
    ]
    assert float(apart(by_dali(chain, paths), stacked(theirs))[-1]) <= 1.001
    assert 0 < int(flags.sum()) < len(paths)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_none_may_go_through(p: float, paths: list[str]) -> None:
    chain = cut(v1.RandomApply([v1.RandomSolarize(100, 1.0)], p))
    theirs = [F.solarize(image, 100) if p else image for image in squares(paths)]
    assert torch.allclose(by_dali(chain, paths), stacked(theirs), atol=1e-6)


def test_a_jitter_inside_is_rounded_to_whole_levels(paths: list[str]) -> None:
    chain = cut(v1.RandomApply([v1.ColorJitter((1.3, 1.3))], 0.5))
    flags = drawn(chain, paths)["1_on"]
    theirs = [
        F.adjust_brightness(image, 1.3) if flag else image
        for image, flag in zip(squares(paths), flags, strict=True)
    ]
    found = by_dali(chain, paths)
    assert float(apart(found, stacked(theirs))[-1]) <= 1.001
    assert torch.allclose(found * 255, (found * 255).round(), atol=1e-3)


@pytest.mark.parametrize("version", [v1, v2])
def test_random_choice_takes_one_by_its_weight(version: Any, paths: list[str]) -> None:
    alternatives = [v1.RandomInvert(1.0), v1.RandomPosterize(2, 1.0), v1.RandomVerticalFlip(1.0)]
    chain = cut(version.RandomChoice(alternatives, p=[3.0, 1.0, 1.0]))
    given = drawn(chain, paths)
    flags = torch.stack([given[f"1_{number}_on"] for number in range(3)])
    assert flags.int().sum(dim=0).tolist() == [1] * len(paths)
    do = (F.invert, lambda image: F.posterize(image, 2), F.vflip)
    theirs = [do[int(flags[:, n].int().argmax())](image) for n, image in enumerate(squares(paths))]
    assert torch.allclose(by_dali(chain, paths), stacked(theirs), atol=1e-6)
    many = drawn(chain, paths[:1] * MANY)["1_0_on"].double().mean()
    assert abs(float(many) - 0.6) < 4 * math.sqrt(0.24 / MANY)


def test_alternatives_may_crop_in_different_ways(paths: list[str]) -> None:
    chain = v1.Compose(
        [
            v1.RandomChoice([v1.CenterCrop(80), v1.RandomResizedCrop(80), v1.Resize((80, 80))]),
            v1.ToTensor(),
        ]
    )
    given = drawn(chain, paths)
    found = by_dali(chain, paths)
    for place, path in enumerate(paths):
        image = opened(path)
        if given["0_0_on"][place]:
            wanted = F.center_crop(image, [80, 80])
        elif given["0_1_on"][place]:
            start, shape = given["0_1_0_start"][place], given["0_1_0_shape"][place]
            wanted = F.resized_crop(image, *start.tolist(), *shape.tolist(), [80, 80])
        else:
            wanted = F.resize(image, [80, 80])
        differences = apart(found[place], F.to_tensor(wanted))
        assert float(differences.mean()) < 0.6


@pytest.mark.parametrize("version", [v1, v2])
def test_random_order_goes_through_all_in_an_order_of_each_images_own(
    version: Any, paths: list[str]
) -> None:
    inner = [v1.RandomInvert(1.0), v1.RandomPosterize(2, 1.0), v1.RandomSolarize(150, 1.0)]
    chain = cut(version.RandomOrder(inner))
    given = drawn(chain, paths)
    do = (F.invert, lambda image: F.posterize(image, 2), lambda image: F.solarize(image, 150))
    theirs, orders = [], set()
    for place, image in enumerate(squares(paths)):
        order = []
        for position in range(3):
            flags = [bool(given[f"1_{position}_{number}_on"][place]) for number in range(3)]
            assert sum(flags) == 1
            order.append(flags.index(True))
        theirs.append(do[order[2]](do[order[1]](do[order[0]](image))))
        orders.add(tuple(order))
    assert torch.allclose(by_dali(chain, paths), stacked(theirs), atol=1e-6)
    assert len(orders) > 2
    assert all(sorted(order) == [0, 1, 2] for order in orders)


def test_choices_may_be_nested_and_mirrored(paths: list[str]) -> None:
    inner = v1.RandomApply([v1.RandomHorizontalFlip(1.0)], 0.5)
    chain = cut(v1.RandomHorizontalFlip(1.0), v1.RandomApply([inner, v1.RandomInvert(1.0)], 0.7))
    given = drawn(chain, paths)
    theirs = []
    for place, image in enumerate(squares(paths)):
        again = bool(given["2_0_on"][place])
        theirs.append(F.hflip(image))
        if given["2_on"][place]:
            theirs[-1] = F.invert(image if again else theirs[-1])
    assert torch.allclose(by_dali(chain, paths), stacked(theirs), atol=1e-6)


REFUSED = {
    "a function": (v1.RandomApply([v1.Lambda(lambda x: x)]), "Lambda in RandomApply", "own"),
    "types": (v1.RandomApply([v1.ToTensor()]), "RandomApply", "changes type"),
    "channels": (v1.RandomChoice([v1.Grayscale(), v1.CenterCrop(9)]), "RandomChoice", "channels"),
    "sizes": (v1.RandomOrder([v1.CenterCrop(9), v1.RandomInvert()]), "RandomOrder", "size"),
    "many": (v1.RandomOrder([v1.RandomInvert()] * 5), "RandomOrder", "more than 4"),
}


@pytest.mark.parametrize(("transform", "name", "why"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_equal_is_refused_by_name(transform: Any, name: str, why: str) -> None:
    found = translate(v1.Compose([transform, v1.ToTensor()]))
    assert found.chain is None
    assert any(row.transform == name and why in row.why for row in found.rows), found.rows


def test_the_table_names_what_is_inside() -> None:
    found = translate(cut(v1.RandomApply([v1.ColorJitter(0.1), v1.GaussianBlur(3)])))
    names = [row.transform for row in found.rows]
    assert names == [
        "CenterCrop", "RandomApply", "ColorJitter in RandomApply", "GaussianBlur in RandomApply",
        "ToTensor",
    ]  # fmt: skip
    assert all(row.became for row in found.rows)
