"""Workers that are kept from pass to pass by us alone do not change what a script sees."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import in_force
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from speedprof.mitigations.applied import kept_workers
from speedprof.mitigations.applied.process import Applied, Process

LENGTH, BATCH = 24, 4
WAYS = ("loader-workers", "persistent-workers")  # the script has no workers, or its own


class Samples(Dataset[Any]):
    """Samples that say what the data set holds, and in which process."""

    def __init__(self) -> None:
        self.scale = 1
        self.order = list(range(LENGTH))
        self.indices = np.arange(LENGTH)
        self.view = View()
        self.epoch = 0

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[float, int]:
        where = self.order[int(self.indices[index])]
        return self.view.strength * self.scale * (where + 100 * self.epoch), os.getpid()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def reordered(self) -> None:
        random.Random(5).shuffle(self.order)

    def renumbered(self) -> None:
        np.random.default_rng(5).shuffle(self.indices)


class View:
    """A transform of sorts."""

    strength = 1.0


def made(way: str, process: Process) -> tuple[Any, Applied]:
    one = in_force.applied(process, way)
    own = {} if way == "loader-workers" else {"num_workers": 2}
    loader = DataLoader(Samples(), BATCH, **own)
    assert (loader.num_workers, loader.persistent_workers) == (2, True)
    return loader, one


def values(batches: Any) -> list[float]:
    return [value for batch, _ in batches for value in batch.tolist()]


def workers(batches: Any) -> set[int]:
    return {worker for _, by in batches for worker in by.tolist()}


CHANGES: dict[str, Callable[[Any], object]] = {
    "an attribute": lambda data: setattr(data, "scale", 3),
    "a method": lambda data: data.set_epoch(1),
    "another transform": lambda data: setattr(data.view, "strength", 0.5),
    "a list in place": Samples.reordered,
    "an array in place": Samples.renumbered,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_the_script_changes_between_passes_reaches_the_workers(
    process: Process, way: str, change: Callable[[Any], object]
) -> None:
    loader, one = made(way, process)
    first = values(loader)
    assert first == values(DataLoader(Samples(), BATCH))
    change(loader.dataset)
    bare = Samples()
    change(bare)
    assert values(loader) == [bare[index][0] for index in range(LENGTH)] != first
    assert one.notes == [kept_workers.CHANGED]


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_that_is_looked_at_within_a_pass_does_not_begin_it_anew(
    process: Process, way: str
) -> None:
    loader, one = made(way, process)
    bare = values(DataLoader(Samples(), BATCH))
    seen = []
    for batch in loader:
        seen.append(batch)
        assert values([next(iter(loader))]) == bare[:BATCH]
        assert len(seen) <= LENGTH // BATCH, "the pass does not end"
    assert values(seen) == bare
    assert values(loader) == bare
    assert one.notes == [kept_workers.BESIDE]


@pytest.mark.parametrize("way", WAYS)
def test_two_passes_side_by_side_are_two(process: Process, way: str) -> None:
    loader, _ = made(way, process)
    bare = values(DataLoader(Samples(), BATCH))
    one, other = zip(*zip(loader, loader, strict=True), strict=True)
    assert values(one) == values(other) == bare


@pytest.mark.parametrize("way", WAYS)
def test_whole_passes_and_those_left_early_keep_their_workers(process: Process, way: str) -> None:
    loader, one = made(way, process)
    seen = []
    for _ in range(3):
        seen.append(workers(loader))
        for batch in loader:
            seen.append(workers([batch]))
            break
    assert len(set.union(*seen)) == 2
    assert one.notes == []


@pytest.mark.parametrize("way", WAYS)
def test_a_script_that_takes_batches_by_hand_keeps_its_workers(process: Process, way: str) -> None:
    loader, one = made(way, process)
    passing, seen = iter(loader), []
    for _ in range(3 * LENGTH // BATCH):
        try:
            batch = next(passing)
        except StopIteration:
            passing = iter(loader)
            batch = next(passing)
        seen.append(batch)
    assert values(seen) == 3 * values(DataLoader(Samples(), BATCH))
    assert len(workers(seen)) == 2
    assert one.notes == []


def test_workers_that_the_script_keeps_itself_are_its_own(process: Process) -> None:
    one = in_force.applied(process, "persistent-workers")
    loader = DataLoader(Samples(), BATCH, num_workers=1, persistent_workers=True)
    first = values(loader)
    loader.dataset.scale = 3
    assert values(loader) == first  # as torch has it
    assert one.notes == []


def test_a_loader_over_a_plain_list_is_passed_over_as_before(process: Process) -> None:
    in_force.applied(process, "loader-workers", num_workers=1)
    loader = DataLoader(list(range(8)), 4)
    for _ in range(2):
        assert torch.cat(list(loader)).tolist() == list(range(8))
