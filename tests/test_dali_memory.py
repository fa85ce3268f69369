"""Images by DALI take a share of the memory, however many and however large a batch has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import applied, picture  # noqa: E402
from torch.utils.data import DataLoader, Sampler  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.dali import batches, memory  # noqa: E402
from speedprof.mitigations.dali.batches import Batch, Read, batch_of, read_files  # noqa: E402
from speedprof.mitigations.dali.engine import ALL, Lane  # noqa: E402
from speedprof.mitigations.dali.memory import portions, weights  # noqa: E402
from speedprof.mitigations.dali.pipeline import Recipe  # noqa: E402
from speedprof.mitigations.dali.translation import translate  # noqa: E402

CROPPED = transforms.Compose([transforms.RandomResizedCrop(48), transforms.ToTensor()])
MIB = 1 << 20


def made(paths: list[str], room: int, most: int = 99) -> Any:
    chain = translate(CROPPED).chain
    assert chain is not None
    batch = batch_of(paths, 3, 1)
    Lane(Recipe(chain, None, 1, min(most, len(paths)), shrink=True), room=room).make(batch)
    assert batch.failure is None
    return batch.images


def test_parts_keep_the_order_and_fit() -> None:
    sizes = [4, 4, 9, 1, 1, 1, 20, 3]
    assert list(portions(range(8), sizes, most=3, fits=10)) == [[0, 1], [2, 3], [4, 5], [6], [7]]
    assert list(portions([2, 0], sizes, most=3, fits=0)) == [[2], [0]]
    assert list(portions(range(4), sizes, most=3, fits=ALL)) == [[0, 1, 2], [3]]
    assert list(portions([], sizes, most=3, fits=10)) == []


def test_a_batch_made_in_parts_is_the_same(paths: list[str], tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    picture(7, (1000, 900)).save(large, quality=90)  # shrunk while it is decoded
    odd = tmp_path / "odd.jpg"
    picture(8, (90, 80)).convert("CMYK").save(odd)
    mixed = [str(large), *paths[:5], str(odd), str(large), *paths[5:9]]
    whole = made(mixed, ALL)
    assert len(whole) == len(mixed) - 1
    for room in (0, 200_000, 400_000):
        assert torch.equal(made(mixed, room), whole)
    assert torch.equal(made(mixed, ALL, most=4), whole)


def test_an_image_weighs_what_it_is_decoded_to_and_what_is_made_of_it() -> None:
    small = translate(CROPPED).chain or ()
    jitter = [transforms.ColorJitter(0.4), transforms.CenterCrop(48), transforms.ToTensor()]
    whole = translate(transforms.Compose(jitter)).chain or ()
    (light, shrunk), (heavy,) = (
        weights(small, [(1000, 2000)] * 2, [1, 4]),
        weights(whole, [(1000, 2000)], [1]),
    )
    assert shrunk < light
    assert 6 * MIB * 0.95 < light < 6.3 * MIB
    assert heavy > 10 * light


class Told(Sampler[int]):  # type: ignore[misc]
    """Tells how many indices it was asked for."""

    def __init__(self, length: int) -> None:
        self.length, self.asked = length, 0

    def __iter__(self) -> Iterator[int]:
        for index in range(self.length):
            self.asked += 1
            yield index

    def __len__(self) -> int:
        return self.length


def passed(root: Path) -> tuple[list[Any], list[int]]:
    """Return the batches of a pass, and how far ahead of the training each was asked for."""
    torch.manual_seed(0)
    sampler = Told(14)
    loader = DataLoader(ImageFolder(str(root), CROPPED), 2, sampler=sampler)
    found, ahead = [], []
    for batch in loader:
        found.append(batch)
        ahead.append(sampler.asked // 2 - len(found))
    return found, ahead


def test_where_memory_is_short_fewer_batches_wait_and_they_are_the_same(
    root: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = applied(process)
    plenty, far = passed(root)
    assert max(far) == 4
    monkeypatch.setattr(memory, "SHARE", 1 << 60)  # nothing is free
    few, near = passed(root)
    assert max(near[1:]) == 1
    assert all(torch.equal(a[0], b[0]) for a, b in zip(plenty, few, strict=True))
    assert len(one.notes) == 1, one.notes


def test_files_beyond_the_limit_are_read_again_when_it_is_their_turn(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(paths, ALL)
    monkeypatch.setattr(batches, "MOST_ENCODED", 100_000)
    read = read_files(batch_of(paths, 0, 0))
    assert 0 < len(read.again) < len(paths)
    assert sum(len(data) for data in read.inputs) < 100_000 + 16 * len(paths)
    assert torch.equal(made(paths, ALL), whole)


def test_a_file_that_is_gone_by_its_turn_is_the_data_sets(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_ENCODED", 0)
    copy = tmp_path / "copy.jpg"
    shutil.copy(paths[0], copy)
    batch = batch_of([str(copy), paths[1]], 0, 0)

    def read_and_gone(batch: Batch, pool: Any) -> Read:
        read = read_files(batch, pool)
        copy.unlink()
        return read

    batch.read = read_and_gone
    Lane(Recipe(translate(CROPPED).chain or (), None, 1, 2)).make(batch)
    assert batch.images is None
    assert "No such file" in (batch.failure or "")


PEAK = """
import sys, torch
from pathlib import Path
from torchvision import transforms
from speedprof.mitigations.dali.batches import batch_of
from speedprof.mitigations.dali.engine import Lane
from speedprof.mitigations.dali.pipeline import Recipe
from speedprof.mitigations.dali.translation import translate
chain = translate(transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])).chain
def peak():  # KiB; getrusage would count what forked this process
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
lane = Lane(Recipe(chain, None, 1, 16), room=int(sys.argv[2]))
before = peak()
for number in range(2):
    batch = batch_of([sys.argv[1]] * 16, 0, number)
    lane.make(batch)
    assert batch.images.shape == (16, 3, 64, 64), batch.failure
print(peak() - before)
"""


@pytest.mark.slow
def test_large_files_take_no_more_memory_than_there_is_room_for(tmp_path: Path) -> None:
    path = tmp_path / "large.png"  # decoded whole: 24 MiB
    picture(1, (64, 48)).resize((3264, 2560)).save(path, compress_level=1)
    whole, in_parts = (
        int(subprocess.check_output([sys.executable, "-c", PEAK, str(path), str(room)])) / 1024
        for room in (ALL, 60 * MIB)
    )
    assert whole > 16 * 20  # MiB
    assert in_parts < 0.6 * whole
