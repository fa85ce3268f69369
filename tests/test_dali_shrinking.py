"""Large JPEGs shrunk while they are decoded: when, and how near the pixels stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import SIZES, apart, by_torchvision, opened, picture  # noqa: E402
from torchvision.transforms import functional as F  # noqa: E402
from torchvision.transforms import transforms as v1  # noqa: E402

from speedprof.mitigations.dali.batches import batch_of, read_files  # noqa: E402
from speedprof.mitigations.dali.engine import Lane  # noqa: E402
from speedprof.mitigations.dali.pipeline import Recipe, arguments  # noqa: E402
from speedprof.mitigations.dali.shrinking import factors, possible  # noqa: E402
from speedprof.mitigations.dali.translation import translate  # noqa: E402

LARGE = ((1148, 779), (779, 1148), (1000, 1000))
LIMITS = (1.2, 9.0)  # levels: the mean, and what 99 of 100 keep to


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write large files, and small ones among them."""
    root = tmp_path_factory.mktemp("large")
    found = []
    for number, size in enumerate((*LARGE, *SIZES, *LARGE)):
        found.append(str(root / f"{number}.jpg"))
        picture(number, size).save(found[-1], quality=92)
    return found


def made(transform: Any, paths: list[str], seed: int = 4) -> Any:
    chain = translate(transform).chain
    assert chain is not None
    batch = batch_of(paths, 0, 0)
    batch.seed = seed
    Lane(Recipe(chain, None, 1, len(paths), shrink=True)).make(batch)
    assert batch.failure is None
    return batch.images


def shrunk(transform: Any, paths: list[str], seed: int = 4) -> tuple[list[int], dict[str, Any]]:
    chain = translate(transform).chain
    assert chain is not None
    read = read_files(batch_of(paths, 0, 0))
    given = arguments(chain, read.sizes, seed)
    return factors(chain, read.inputs, read.sizes, given), given


def near(one: Any, other: Any) -> bool:
    found = apart(one, other)
    mean, nearly_all = float(found.mean()), float(found[int(0.99 * len(found))])
    return mean <= LIMITS[0] and nearly_all <= LIMITS[1]


@pytest.mark.parametrize("size", [(112, 112), (64, 80), (40, 40)])
def test_a_shrunk_file_resizes_to_nearly_the_same_pixels(
    size: tuple[int, int], paths: list[str]
) -> None:
    transform = v1.Compose([v1.Resize(size), v1.ToTensor()])
    assert max(shrunk(transform, paths)[0]) > 1
    assert near(made(transform, paths), by_torchvision(transform, paths))


def test_the_shorter_side_is_resized_alike(paths: list[str]) -> None:
    transform = v1.Compose([v1.Resize(96), v1.CenterCrop(90), v1.ToTensor()])
    assert max(shrunk(transform, paths)[0]) > 1
    assert near(made(transform, paths), by_torchvision(transform, paths))


def test_a_random_crop_of_a_shrunk_file_has_nearly_the_same_pixels(paths: list[str]) -> None:
    transform = v1.Compose([v1.RandomResizedCrop(96, scale=(0.5, 1.0)), v1.ToTensor()])
    by, given = shrunk(transform, paths)
    assert 1 in by
    assert 2 in by
    theirs = torch.stack(
        [
            F.to_tensor(F.resized_crop(opened(path), *start.tolist(), *shape.tolist(), [96, 96]))
            for path, start, shape in zip(paths, given["0_start"], given["0_shape"], strict=True)
        ]
    )
    assert near(made(transform, paths), theirs)


def test_two_pixels_remain_for_each_that_is_wanted(paths: list[str]) -> None:
    transform = v1.Compose([v1.RandomResizedCrop(64), v1.ToTensor()])
    for seed in range(20):
        by, given = shrunk(transform, paths, seed)
        for factor, shape in zip(by, given["0_shape"].tolist(), strict=True):
            assert factor == 1 or min(shape) / factor >= 2 * 64


def test_what_is_not_shrunk_by_a_wide_filter_is_decoded_whole() -> None:
    nearest = v1.InterpolationMode.NEAREST
    for first in (v1.Resize(9, nearest), v1.CenterCrop(9), v1.RandomCrop(9)):
        assert not possible(translate(v1.Compose([first, v1.ToTensor()])).chain or ())


def test_pngs_are_decoded_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    picture(1, LARGE[0]).save(path)
    transform = v1.Compose([v1.Resize((40, 40)), v1.ToTensor()])
    assert shrunk(transform, [str(path)])[0] == [1]
