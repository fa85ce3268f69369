"""What a trial does inside the training process: which batches are given again, and how."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from speedprof.profiler import trials
from speedprof.profiler.session import Options, Session
from speedprof.profiler.trials.batches import Copier, clone
from speedprof.profiler.trials.replay import KEPT
from speedprof.tests.in_process import facts


class Pair(NamedTuple):
    images: torch.Tensor
    labels: tuple[str, int]


@contextlib.contextmanager
def trial(folder: Path, kind: str, *, steps: int = 10_000) -> Iterator[Session]:
    """Put this process under a trial; a trial that ends the script ends the block."""
    session = Session(str(folder), Options(windows=False, warmup=0))
    length = {"kind": kind, "steps": steps, "least_s": 0.0, "most_s": 1e6}
    trials.begin(session, {}, length)
    try:
        with contextlib.suppress(SystemExit):
            yield session
    finally:
        session.end()


class Learner:
    """One step of training on whatever holds floats."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.ones(()))
        self.optimizer = torch.optim.SGD([self.weight], lr=1e-6)

    def step(self, batch: torch.Tensor) -> None:
        loss = (self.weight * batch.float().sum()).square()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Numbers(Dataset[torch.Tensor]):
    """Samples that count how often they are made."""

    def __init__(self, count: int) -> None:
        self.count, self.made = count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        self.made += 1
        return torch.full((3,), float(index))


def said(folder: Path) -> dict[str, Any]:
    """Return what the trial said of itself last."""
    return facts(folder, "trial")[-1]


def test_nothing_is_made_again_once_the_replay_has_begun(tmp_path: Path) -> None:
    numbers, learner, seen = Numbers(64), Learner(), []
    loader = DataLoader(numbers, batch_size=2)
    with trial(tmp_path, trials.REPLAYED):
        for _epoch in range(3):
            for batch in loader:
                seen.append(batch[:, 0].tolist())
                learner.step(batch)
    assert numbers.made == 2 * KEPT
    assert len(seen) == 3 * 32, "epochs keep their length"
    assert seen[KEPT : 2 * KEPT] == seen[:KEPT]
    assert said(tmp_path)["kept"] == KEPT


def _in_place(batch: torch.Tensor) -> None:
    batch.zero_()


def _through_numpy(batch: torch.Tensor) -> None:
    batch.numpy()[:] = -1


def _past_the_counter(batch: torch.Tensor) -> None:
    batch.data.mul_(0)


def _by_gradient(batch: torch.Tensor) -> None:
    batch.requires_grad_(True)
    batch.sum().backward()


@pytest.mark.parametrize("alter", [_in_place, _through_numpy, _past_the_counter, _by_gradient])
def test_a_batch_that_the_script_alters_is_given_again_unaltered(
    tmp_path: Path, alter: Callable[[torch.Tensor], None]
) -> None:
    learner, arrived, gradients = Learner(), [], []
    with trial(tmp_path, trials.REPLAYED):
        for _epoch in range(4):
            for batch in DataLoader(Numbers(32), batch_size=2):
                arrived.append(batch[:, 0].tolist())
                gradients.append(batch.grad)
                learner.step(batch)
                alter(batch)
    true = [[2.0 * n, 2.0 * n + 1] for n in range(16)]
    assert all(batch in true[:KEPT] for batch in arrived[KEPT:])
    assert gradients == [None] * len(gradients)


def test_a_short_epoch_is_gone_round_with_its_last_small_batch_and_that_is_said(
    tmp_path: Path,
) -> None:
    learner, sizes = Learner(), []
    with trial(tmp_path, trials.REPLAYED):
        for _epoch in range(4):
            for batch in DataLoader(Numbers(7), batch_size=3):
                sizes.append(len(batch))
                learner.step(batch)
    assert sizes == [3, 3, 1] * 4
    notes = " ".join(said(tmp_path)["notes"])
    assert "only 3 batches were kept" in notes
    assert "differ in shape" in notes


def test_evaluation_gets_its_own_batches(tmp_path: Path) -> None:
    training, evaluation, learner = Numbers(40), Numbers(8), Learner()
    with trial(tmp_path, trials.REPLAYED):
        for _epoch in range(3):
            for batch in DataLoader(training, batch_size=2):
                learner.step(batch)
            with torch.no_grad():
                seen = [batch[0, 0].item() for batch in DataLoader(evaluation, batch_size=2)]
            assert seen == [0.0, 2.0, 4.0, 6.0]
    assert evaluation.made == 3 * 8
    assert training.made == 2 * KEPT


class Endless(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(60.0).view(30, 2))


def test_a_stream_without_length_goes_on_and_that_is_said(tmp_path: Path) -> None:
    learner, steps = Learner(), 0
    with trial(tmp_path, trials.REPLAYED, steps=50):
        for batch in DataLoader(Endless(), batch_size=1):
            learner.step(batch)
            steps += 1
    assert steps >= 50
    assert any("no length" in note for note in said(tmp_path)["notes"])


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_are_ended_when_the_replay_begins(tmp_path: Path, persistent: bool) -> None:
    learner = Learner()
    loader = DataLoader(Numbers(48), batch_size=2, num_workers=1, persistent_workers=persistent)
    with trial(tmp_path, trials.REPLAYED):
        for _epoch in range(2):
            iterator = iter(loader)
            workers = list(getattr(iterator, "_workers", []))
            for batch in iterator:
                learner.step(batch)
            assert not any(worker.is_alive() for worker in workers)
    assert said(tmp_path)["kept"] == KEPT


def test_the_loader_alone_is_timed_over_epochs_and_ends_the_script(tmp_path: Path) -> None:
    learner, numbers, steps = Learner(), Numbers(20), 0
    with trial(tmp_path, trials.LOADER, steps=30):
        for _epoch in range(9):
            for batch in DataLoader(numbers, batch_size=4):
                learner.step(batch)
                steps += 1
    assert steps == 1
    found = said(tmp_path)
    assert len(found["ns"]) == 30
    assert found["samples"] == [4] * 30
    assert min(found["ns"]) > 0


def test_a_script_without_a_loader_says_nothing(tmp_path: Path) -> None:
    learner = Learner()
    with trial(tmp_path, trials.REPLAYED):
        for _step in range(20):
            learner.step(torch.ones(2))
    assert facts(tmp_path, "trial") == []


def test_a_batch_that_can_be_read_only_once_ends_the_trial_with_a_reason(tmp_path: Path) -> None:
    learner, steps = Learner(), 0

    def collate(samples: list[torch.Tensor]) -> tuple[torch.Tensor, Iterator[int]]:
        return torch.stack(samples), (n for n in range(3))

    with trial(tmp_path, trials.REPLAYED):
        for _epoch in range(3):
            for batch, numbers in DataLoader(Numbers(32), batch_size=2, collate_fn=collate):
                assert list(numbers) == [0, 1, 2]
                learner.step(batch)
                steps += 1
    assert steps <= 2
    assert said(tmp_path)["kind"] == "refused"
    assert "a generator" in said(tmp_path)["why"]


def test_batches_come_from_the_device_after_a_round(tmp_path: Path) -> None:
    learner, moved = Learner(), []
    copies: list[int] = []
    with trial(tmp_path, trials.ON_DEVICE):
        for _epoch in range(3):
            for (batch,) in DataLoader(TensorDataset(torch.randn(64, 3)), batch_size=2):
                arrived = batch.to("meta", non_blocking=True)  # any other device
                moved.append(arrived.device.type)
                copies.append(id(arrived))
                learner.step(batch)
    assert set(moved) == {"meta"}
    said_last = said(tmp_path)
    assert said_last["kind"] == trials.ON_DEVICE
    assert said_last["kept"] == KEPT


# -- copies


class Opaque:
    """An object that nobody can copy."""

    def __deepcopy__(self, _memo: object) -> Opaque:
        raise TypeError("a handle")


def test_copies_keep_the_shape_of_a_batch_and_share_no_memory() -> None:
    first = torch.arange(4.0)
    batch = {"x": first, "y": [first, Pair(torch.ones(2), ("a", 1))], "n": first.numpy()}
    copier = Copier()
    copied = copier.copy(batch)
    assert isinstance(copied["y"][1], Pair)
    assert copied["y"][1].labels == ("a", 1)
    assert copied["x"] is copied["y"][0], "one tensor in two places stays one"
    first.zero_()
    assert copied["x"].tolist() == [0, 1, 2, 3]
    assert copied["n"].tolist() == [0, 1, 2, 3]
    assert copier.uncopied == set()


def test_what_cannot_be_copied_is_handed_out_as_it_is_and_named() -> None:
    copier, handle = Copier(), Opaque()
    copied = copier.copy([torch.ones(1), handle])
    assert copied[1] is handle
    assert copier.uncopied == {"Opaque"}


def test_a_packed_sequence_and_a_sparse_tensor_are_copied() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])
    sparse = torch.eye(3).to_sparse()
    again, other = Copier().copy((packed, sparse))
    packed.data.zero_()
    assert again.data.tolist() == [1] * 5
    assert other.to_dense().equal(torch.eye(3))


def test_a_clone_has_no_history() -> None:
    leaf = torch.ones(2, requires_grad=True)
    assert clone(leaf * 2).grad_fn is None
    assert clone(leaf).requires_grad
