"""Auto-augment policies by DALI: torchvision's operations, strengths and chances."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import numpy as np  # noqa: E402
from dali_cases import apart, by_dali, drawn, folder, opened, paths_in, picture  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.transforms import InterpolationMode, autoaugment, v2  # noqa: E402
from torchvision.transforms import functional as F  # noqa: E402
from torchvision.transforms import transforms as v1  # noqa: E402

from speedprof.mitigations.dali.policies import FAMILIES, Policy  # noqa: E402
from speedprof.mitigations.dali.translation import translate  # noqa: E402

MANY = 6000
BILINEAR = InterpolationMode.BILINEAR
SIZE = (150, 120)  # height, width
EXACT, LEVEL = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # mean, what 99 of 100 keep to, largest
CUT = (0.02, 1.0, 1.0)  # a float's last digit decides what is cut off
EVEN = (0.6, 1.0, 3.0)  # what is looked up in a histogram, counted to a level


@pytest.fixture(scope="module", params=["png", "jpg"])
def paths(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return paths_in(folder(tmp_path_factory.mktemp("images") / "all", kind=request.param))


def cut(*transforms: Any) -> Any:
    return v1.Compose([v1.CenterCrop(SIZE), *transforms, v1.ToTensor()])


def tensors(*transforms: Any) -> Any:
    return v2.Compose(
        [v2.ToImage(), v2.CenterCrop(SIZE), *transforms, v2.ToDtype(torch.float32, scale=True)]
    )


# -- one operation each, on all images

LEVELS = {
    "invert": (v1.RandomInvert(1.0), EXACT),
    "posterize": (v1.RandomPosterize(3, 1.0), EXACT),
    "posterize to eight bits": (v1.RandomPosterize(8, 1.0), EXACT),
    "solarize": (v1.RandomSolarize(128, 1.0), EXACT),
    "solarize by a fraction": (v1.RandomSolarize(99.5, 1.0), EXACT),
    "autocontrast": (v1.RandomAutocontrast(1.0), CUT),
    "equalize": (v1.RandomEqualize(1.0), EVEN),
    "sharper": (v1.RandomAdjustSharpness(1.9, 1.0), CUT),
    "softer": (v1.RandomAdjustSharpness(0.1, 1.0), CUT),
}


def within(one: Any, other: Any, most: tuple[float, float, float]) -> None:
    found = apart(one, other)
    tiny = 1e-4
    assert float(found.mean()) <= most[0] + tiny
    assert float(found[int(0.99 * len(found))]) <= most[1] + tiny
    assert float(found[-1]) <= most[2] + tiny


@pytest.mark.parametrize(("transform", "most"), LEVELS.values(), ids=LEVELS)
def test_levels_are_torchvisions(
    transform: Any, most: tuple[float, float, float], paths: list[str]
) -> None:
    chain = cut(transform)
    within(by_dali(chain, paths), torch.stack([chain(opened(path)) for path in paths]), most)


ON_TENSORS = {
    "invert": v2.RandomInvert(1.0),
    "posterize": v2.RandomPosterize(3, 1.0),
    "solarize": v2.RandomSolarize(128, 1.0),
    "autocontrast": v2.RandomAutocontrast(1.0),
    "equalize": v2.RandomEqualize(1.0),
    "sharper": v2.RandomAdjustSharpness(1.9, 1.0),
}


@pytest.mark.parametrize("transform", ON_TENSORS.values(), ids=ON_TENSORS)
def test_levels_of_tensors_are_torchvisions(transform: Any, paths: list[str]) -> None:
    chain = tensors(transform)
    theirs = torch.stack([chain(opened(path)) for path in paths])
    within(by_dali(chain, paths), theirs, EVEN)


@pytest.mark.parametrize("kind", ["flat", "nearly flat", "two levels", "white"])
def test_images_with_hardly_any_levels_are_spread_as_torchvision_does(
    kind: str, tmp_path: Path
) -> None:
    pixels = np.full((*SIZE, 3), 90, dtype=np.uint8)
    if kind == "nearly flat":
        pixels[:3, :3] = (80, 100, 91)  # fewer pixels than there are levels
    elif kind == "two levels":
        pixels[:70] = (30, 200, 90)
    elif kind == "white":
        pixels[20:, :] = 255
    path = str(tmp_path / "flat.png")
    Image.fromarray(pixels).save(path)
    for transform in (v1.RandomEqualize(1.0), v1.RandomAutocontrast(1.0)):
        chain = cut(transform)
        within(by_dali(chain, [path]), chain(opened(path))[None], LEVEL)


# -- whole policies, with the parameters that were drawn


def v1_policies() -> dict[str, Any]:
    return {
        "imagenet": v1_auto("imagenet"),
        "cifar10": v1_auto("cifar10"),
        "svhn": v1_auto("svhn"),
        "rand": autoaugment.RandAugment(),
        "rand of three, strong": autoaugment.RandAugment(3, 17, 20),
        "trivial": autoaugment.TrivialAugmentWide(),
    }


def v1_auto(name: str) -> Any:
    return autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy(name))


def v2_policies() -> dict[str, Any]:
    return {
        "imagenet": v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
        "cifar10": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
        "rand": v2.RandAugment(),
        "trivial": v2.TrivialAugmentWide(),
    }


def step_of(transform: Any) -> Policy:
    chain = translate(cut(transform)).chain
    assert chain is not None
    (found,) = (step for step in chain if isinstance(step, Policy))
    return found


class Watched:
    """What torchvision applies to an image: operations and magnitudes, recorded or dictated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[list[tuple[str, float]]] = []

        def one(image: Any, name: str, magnitude: float, *rest: Any, **named: Any) -> Any:
            self.seen[-1].append((name, magnitude))
            return image

        def two(
            _self: Any, image: Any, name: str, magnitude: float, *rest: Any, **named: Any
        ) -> Any:
            scale = 255.0 if name == "Solarize" else 1.0
            self.seen[-1].append((name, magnitude * scale))
            return image

        monkeypatch.setattr(autoaugment, "_apply_op", one)
        monkeypatch.setattr(
            v2._auto_augment._AutoAugmentBase, "_apply_image_or_video_transform", two
        )

    def draw(self, transform: Any, image: Any, count: int) -> None:
        for _ in range(count):
            self.seen.append([])
            transform(image)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def operations(step: Policy, count: int, seed: int) -> list[list[tuple[str, float]]]:
    """Return what our policy draws for so many images, in torchvision's words."""
    found: list[list[tuple[str, float]]] = [[] for _ in range(count)]
    random = torch.Generator().manual_seed(seed)
    pair = torch.randint(max(len(step.pairs), 1), (count,), generator=random)
    sizes = torch.tensor([SIZE] * count)
    for stage in range(step.stages):
        kind, strength, chosen = step._operations(random, pair, stage)
        magnitude = step.space.magnitudes(kind, strength, sizes)
        for n in range(count):
            if chosen[n]:
                found[n].append((step.space.names[int(kind[n])], float(magnitude[n])))
    return found


def unsigned(drawn_ones: list[list[tuple[str, float]]]) -> Counter[tuple[Any, ...]]:
    return Counter(
        tuple((name, round(abs(magnitude), 3)) for name, magnitude in one) for one in drawn_ones
    )


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", v2_policies())
def test_operations_and_strengths_come_as_often_as_torchvisions(
    name: str, version: str, watched: Watched
) -> None:
    transform = (v1_policies() if version == "v1" else v2_policies())[name]
    torch.manual_seed(3)
    watched.draw(transform, picture(1, SIZE[::-1]), MANY)
    theirs, ours = unsigned(watched.seen), unsigned(operations(step_of(transform), MANY, 4))
    common = [key for key in {*theirs, *ours} if theirs[key] + ours[key] >= 20]
    squares = sum((theirs[k] - ours[k]) ** 2 / (theirs[k] + ours[k]) for k in common)
    free = len(common)
    assert squares < free + 3.3 * math.sqrt(2 * free) + 8  # chi-squared, about p = 0.001
    rare = MANY - sum(ours[k] for k in common)
    assert abs(rare - (MANY - sum(theirs[k] for k in common))) < 5 * math.sqrt(MANY)
    assert {name for one in theirs for name, _ in one} == {n for one in ours for n, _ in one}


def applied_by_torchvision(transform: Any, paths: list[str], seed: int) -> Any:
    """Apply with torchvision what our policy drew: family, sign and parameters decoded."""
    step = step_of(transform)
    random = torch.Generator().manual_seed(seed)
    count = len(paths)
    sizes = torch.tensor([SIZE] * count)
    from speedprof.mitigations.dali import draws

    pair = draws.choice(random, count, (1.0,) * max(len(step.pairs), 1))
    images = [F.center_crop(opened(path), list(SIZE)) for path in paths]
    for stage in range(step.stages):
        kind, strength, chosen = step._operations(random, pair, stage)
        sign = 1.0 - 2.0 * draws.chance(random, count, 0.5).double()
        magnitude = step.space.magnitudes(kind, strength, sizes)
        for n in range(count):
            if not chosen[n]:
                continue
            name = step.space.names[int(kind[n])]
            signed = step.space.signed[int(kind[n])]
            amount = float(magnitude[n] * (sign[n] if signed else 1.0))
            images[n] = autoaugment._apply_op(
                images[n], name, amount, transform.interpolation, None
            )
    return torch.stack([F.to_tensor(image) for image in images])


@pytest.mark.parametrize("name", v1_policies())
def test_the_same_parameters_give_torchvisions_pixels(name: str, tmp_path: Path) -> None:
    paths = []
    for number in range(48):
        paths.append(str(tmp_path / f"{number}.png"))
        picture(number, (130 + number, 170)).save(paths[-1])
    transform = v1_policies()[name]
    found = apart(
        by_dali(v1.Compose([v1.CenterCrop(SIZE), transform, v1.ToTensor()]), paths, seed=9),
        _after_the_crop(transform, paths, 9),
    )
    assert float(found.mean()) < 0.8
    assert float(found[int(0.95 * len(found))]) <= 2.001  # a second step may widen a level


def _after_the_crop(transform: Any, paths: list[str], seed: int) -> Any:
    """A centre crop draws nothing, so the batch's generator is as new for the policy."""
    return applied_by_torchvision(transform, paths, seed)


def test_every_operation_of_a_policy_is_met_in_one_batch(tmp_path: Path) -> None:
    path = str(tmp_path / "one.png")
    picture(1, SIZE[::-1]).save(path)
    chain = cut(autoaugment.TrivialAugmentWide())
    given = drawn(chain, [path] * 200, seed=1)
    on = {name.split("_")[-2]: value for name, value in given.items() if name.endswith("_on")}
    assert set(on) == set(FAMILIES.values())
    assert sum(int(flags.sum()) for flags in on.values()) <= 200
    together = torch.stack(list(on.values())).int().sum(dim=0)
    assert int(together.max()) == 1  # one operation an image


def test_tensors_of_bytes_are_augmented_as_pil_images(paths: list[str]) -> None:
    transform = v2.TrivialAugmentWide()
    same = by_dali(cut(v2.TrivialAugmentWide()), paths, seed=2)
    assert torch.equal(by_dali(tensors(transform), paths, seed=2), same)


REFUSED = {
    "floats": ([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.RandAugment()], "bytes"),
    "bicubic": ([v1_auto("svhn")], "no bicubic interpolation"),
    "colours": ([autoaugment.RandAugment(fill=[1, 2, 3])], "a fill of several colours"),
    "grey": ([v1.Grayscale(), autoaugment.RandAugment()], "one channel"),
    "mixing": ([autoaugment.AugMix()], "mixes several chains"),
}
REFUSED["bicubic"][0][0].interpolation = InterpolationMode.BICUBIC


@pytest.mark.parametrize(("chain", "why"), REFUSED.values(), ids=REFUSED)
def test_a_policy_without_an_equal_is_refused_by_name(chain: list[Any], why: str) -> None:
    found = translate(v1.Compose([*chain, v2.ToImage()]))
    assert found.chain is None
    assert any(why in row.why for row in found.rows), [str(row) for row in found.rows]


def test_dalis_own_policies_are_other_ones() -> None:
    """Why they are not used: if this fails, they have become torchvision's."""
    from nvidia.dali.auto_aug import auto_augment

    theirs = auto_augment.get_image_net_policy()
    assert theirs.num_magnitude_bins == 11
    pairs = [[augmentation.name for augmentation, *_ in pair] for pair in theirs.sub_policies]
    assert pairs[0] != [name.lower() for name, *_ in v1_auto("imagenet").policies[0]]
