"""How much is kept, what keeping gains, and that its memory is given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")

import numpy as np  # noqa: E402
from cache_cases import LENGTH, PASSES, Slow, applied, ended, loader, seen, unkept  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied import sample_shelf, words  # noqa: E402
from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.applied.sample_cache import ONCE  # noqa: E402
from speedprof.mitigations.applied.shared_memory import ranks_here  # noqa: E402


def test_quickly_made_samples_are_not_worth_keeping(process: Process) -> None:
    ready = np.zeros(1 << 20, dtype=np.uint8)  # handed out as it is; what is kept is copied

    class Quick(Slow):
        def __getitem__(self, index: int) -> Any:
            return ready

    assert "keeping them gains nothing" in unkept(process, lambda: Quick(None))


def test_no_more_is_kept_than_the_budget_holds(process: Process) -> None:
    one = applied(process, budget_mb=1)
    make = lambda index: torch.full((64, 1024), float(index))  # noqa: E731 - a quarter of it
    dataset = Slow(make)
    assert seen(loader(dataset)) == seen(loader(Slow(make)))
    ended(process, one)
    assert 0 < one.effects <= 3 * 2 * (PASSES - 1)
    assert "of 1 MB were used; then its budget was full" in "; ".join(one.notes)


def test_fewer_steps_are_kept_where_all_of_them_have_no_room(
    process: Process, jpegs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As float32 at 224 pixels, twelve images need 7 MB; as they are decoded, 11; at 224, 1.8."""
    monkeypatch.setattr(sample_shelf, "REPAID", 1e9)  # whatever making them costs
    chain = transforms.Compose(
        [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.RandomErasing()]
    )
    bare = seen(loader(ImageFolder(str(jpegs), chain)))
    one = applied(process, budget_mb=3)
    assert seen(loader(ImageFolder(str(jpegs), chain))) == bare
    assert ended(process, one).effects == LENGTH * (PASSES - 1)


def test_a_single_pass_has_no_effect_and_says_so(process: Process) -> None:
    one = applied(process)
    seen(loader(Slow(lambda index: index)), 1)
    assert ended(process, one).effects == 0
    told = f"{LENGTH} samples of Slow were kept, and none was read again; {ONCE}"
    assert told in one.notes
    assert words.sentence([one], []).startswith(f"cache-samples had no effect ({told}")


def test_undone_the_class_is_as_it_was_and_the_memory_free(process: Process) -> None:
    own = Slow.__getitem__
    dataset = Slow(lambda index: torch.full((256, 1024), float(index)))
    bare = seen(loader(dataset))
    before = _shared_bytes()
    applied(process)
    assert seen(loader(dataset)) == bare
    assert Slow.__getitem__ is not own
    assert _shared_bytes() > before + (LENGTH << 20) - (1 << 20)
    assert process.undo() == []
    assert Slow.__getitem__ is own
    assert _shared_bytes() < before + (1 << 20)
    assert seen(loader(dataset)) == bare


def _shared_bytes() -> int:
    """Return what of this process's memory is shared, as Linux counts it."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssShmem"))
    return int(line.split()[1]) * 1024


def test_ranks_that_nobody_counted_share_the_memory_as_well(
    monkeypatch: pytest.MonkeyPatch, group_of_one: None
) -> None:
    """A script that spawns its ranks itself has no launcher's variables."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert ranks_here() == 1
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 8)
    assert ranks_here() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert ranks_here() == 4
