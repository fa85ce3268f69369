"""Workers that were added and that fail are taken back, and the training sees nothing of it."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import in_force
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from speedprof.mitigations.applied import worker_fallback
from speedprof.mitigations.applied.process import Process

LENGTH, BATCH = 40, 4
applied = partial(in_force.applied, name="loader-workers")


class Numbers(Dataset[torch.Tensor]):
    """Samples that say which they are; `fails` is called with the index in a worker."""

    def __init__(self, fails: Any = None, at: int = 0) -> None:
        self.fails, self.at = fails, at
        self.made = 0

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> Any:
        self.made += 1
        if get_worker_info() is not None and self.fails is not None and self.made > self.at:
            return self.fails(index)
        return torch.tensor([float(index)])


def raises(index: int) -> Any:
    raise OSError(f"sample {index} cannot be read in a worker")


def is_killed(index: int) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def has_no_shared_memory(index: int) -> Any:
    os.kill(os.getpid(), signal.SIGBUS)  # what the kernel does where /dev/shm is full


def ends(index: int) -> Any:
    os._exit(3)


def does_not_fit(index: int) -> Any:
    raise MemoryError


def cannot_be_sent(index: int) -> Any:
    return lambda: index


FAILURES = [raises, is_killed, has_no_shared_memory, ends, does_not_fit]


def order(loader: Any, passes: int = 3) -> list[list[list[float]]]:
    """Return what a training sees of a loader, with draws of its own between the batches."""
    torch.manual_seed(0)
    return [
        [[*batch.flatten().tolist(), torch.rand(1).item()] for batch in loader]
        for _ in range(passes)
    ]


@pytest.mark.parametrize("at", [0, 4 * BATCH], ids=["first batch", "fifth batch"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("fails", FAILURES)
def test_batches_come_as_without_workers(
    process: Process, fails: Any, shuffle: bool, at: int
) -> None:
    bare = order(DataLoader(Numbers(), BATCH, shuffle=shuffle))
    one = applied(process, num_workers=1)
    loader = DataLoader(Numbers(fails, at), BATCH, shuffle=shuffle)
    assert loader.num_workers == 1
    assert order(loader) == bare
    assert (loader.num_workers, loader.persistent_workers) == (0, False)
    assert one.effects == 0
    assert "a loader of Numbers lost its workers again" in one.notes[0]


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("own", [True, False], ids=["own generator", "torch's"])
def test_the_order_and_the_scripts_own_draws_stay_in_every_epoch(
    process: Process, persistent: bool, own: bool
) -> None:
    def made() -> Any:
        generator = torch.Generator().manual_seed(3) if own else None
        return DataLoader(Numbers(), BATCH, shuffle=True, generator=generator)

    bare = order(made(), 4)
    one = applied(process, num_workers=2, persistent_workers=persistent)
    loader = made()
    assert order(loader, 4) == bare
    assert (loader.num_workers, loader.persistent_workers, one.effects) == (2, persistent, 1)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_worker_that_is_killed_between_two_passes_is_done_without(
    process: Process, persistent: bool
) -> None:
    applied(process, num_workers=2, persistent_workers=persistent)
    loader = DataLoader(Numbers(), BATCH)
    first = [batch.flatten().tolist() for batch in loader]
    for worker in getattr(loader._iterator, "_workers", []):
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    assert [batch.flatten().tolist() for batch in loader] == first
    assert loader.num_workers == (0 if persistent else 2)


def test_a_death_is_no_error_of_whatever_the_script_does_meanwhile(process: Process) -> None:
    one = applied(process, num_workers=2)
    loader = DataLoader(Numbers(), BATCH)
    passing = iter(loader)
    seen = [next(passing).flatten().tolist()]
    os.kill(passing._workers[0].pid, signal.SIGKILL)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:  # torch's handler of SIGCHLD would raise here
        pass
    seen += [batch.flatten().tolist() for batch in passing]
    assert [index for batch in seen for index in batch] == [float(k) for k in range(LENGTH)]
    assert "SIGKILL" in one.notes[0]


def test_what_the_data_set_raises_everywhere_is_the_scripts_own_error(process: Process) -> None:
    class Damaged(Numbers):
        def __getitem__(self, index: int) -> Any:
            if index == 9:
                raise KeyError("no such sample")
            return torch.tensor([float(index)])

    one = applied(process, num_workers=2)
    loader = DataLoader(Damaged(), BATCH)
    seen: list[list[float]] = []
    with pytest.raises(KeyError, match=r"^'no such sample'$") as caught:
        seen.extend(batch.flatten().tolist() for batch in loader)
    assert seen == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    assert caught.traceback[-1].path == Path(__file__)
    assert caught.value.__context__ is None
    assert (one.effects, one.notes) == (1, [])


def test_a_script_that_goes_on_after_its_own_error_keeps_its_workers(process: Process) -> None:
    class Damaged(Numbers):
        def __getitem__(self, index: int) -> Any:
            if index == 9:
                raise ValueError("damaged")
            return torch.tensor([float(index)])

    def patient(loader: Any) -> list[list[float]]:
        seen, passing = [], iter(loader)
        while True:
            try:
                seen.append(next(passing).flatten().tolist())
            except ValueError:  # noqa: PERF203 - as a patient script does
                continue
            except StopIteration:
                return seen

    bare = patient(DataLoader(Damaged(), BATCH))
    one = applied(process, num_workers=2)
    loader = DataLoader(Damaged(), BATCH)
    assert patient(loader) == bare
    assert len(bare) == LENGTH // BATCH - 1
    assert (loader.num_workers, one.effects) == (2, 1)


def test_batches_that_cannot_be_sent_do_not_hang(process: Process) -> None:
    bare = list(DataLoader(Numbers(), 1, collate_fn=list))
    one = applied(process, num_workers=2)
    loader = DataLoader(Numbers(cannot_be_sent), 1, collate_fn=list)
    assert [batch[0].item() for batch in loader] == [batch[0].item() for batch in bare]
    assert "could not be sent" in one.notes[0]


def test_workers_that_wait_for_ever_are_done_without(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_fallback, "STALLED_S", 0.3)
    monkeypatch.setattr(worker_fallback, "POLL_S", 0.1)
    held = threading.Lock()

    def waits(index: int) -> Any:
        held.acquire()
        held.acquire()

    one = applied(process, num_workers=1)
    loader = DataLoader(Numbers(waits), BATCH)
    assert sum(len(batch) for batch in loader) == LENGTH
    assert "no batch came in 0.3 s" in one.notes[0]


def test_workers_that_cannot_be_started_are_done_without(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    bare = order(DataLoader(Numbers(), BATCH, shuffle=True))
    one = applied(process, num_workers=2)
    loader = DataLoader(Numbers(), BATCH, shuffle=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", refuse)
        seen = order(loader)
    assert seen == bare
    assert "Cannot allocate memory" in one.notes[0]


def test_a_loader_that_is_built_anew_each_epoch_is_not_given_workers_again(
    process: Process,
) -> None:
    one = applied(process, num_workers=1)
    for _ in range(3):
        passing = iter(DataLoader(Numbers(raises), BATCH))  # and the loader itself is gone
        assert sum(len(batch) for batch in passing) == LENGTH
        del passing
    assert (one.effects, len(one.notes)) == (0, 1)
    other = DataLoader(torch.utils.data.Subset(Numbers(), range(8)), BATCH)
    assert other.num_workers == 1


def test_workers_of_the_scripts_own_fail_as_before(process: Process) -> None:
    one = applied(process, num_workers=2)
    loader = DataLoader(Numbers(raises), BATCH, num_workers=1)
    assert loader.num_workers == 2  # named in the plan
    with pytest.raises(OSError, match="Caught OSError in DataLoader worker process"):
        list(loader)
    assert one.notes == []


def test_a_loader_that_a_library_makes_of_ours_is_seen_to_as_well(process: Process) -> None:
    applied(process)
    ours = DataLoader(Numbers(raises), BATCH)
    theirs = DataLoader(ours.dataset, BATCH, num_workers=ours.num_workers)
    assert sum(len(batch) for batch in theirs) == LENGTH


def test_an_error_of_the_sampler_is_the_samplers(process: Process) -> None:
    class Broken(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            yield from range(3 * BATCH)
            raise ValueError("no more indices")

        def __len__(self) -> int:
            return LENGTH

    one = applied(process, num_workers=1, persistent_workers=False)
    loader = DataLoader(Numbers(), BATCH, sampler=Broken())
    with pytest.raises(ValueError, match="no more indices"):
        list(loader)
    assert one.notes == []


def test_generators_stand_where_they_would_without_workers(process: Process) -> None:
    def after(loader: Any) -> tuple[Any, ...]:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        list(loader)
        return torch.rand(1).item(), random.random(), np.random.rand()

    bare = after(DataLoader(Numbers(), BATCH, shuffle=True))
    applied(process, num_workers=2)
    assert after(DataLoader(Numbers(is_killed), BATCH, shuffle=True)) == bare


@pytest.mark.parametrize("kind", ["file", "database"])
def test_a_data_set_with_something_open_gets_no_workers(
    process: Process, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "samples"
    path.write_bytes(bytes(LENGTH))
    dataset = Numbers()
    opened: Any = path.open("rb") if kind == "file" else sqlite3.connect(":memory:")
    dataset.source = [opened]  # type: ignore[attr-defined]
    one = applied(process, num_workers=2)
    loader = DataLoader(torch.utils.data.Subset(dataset, range(4)), 2)
    assert loader.num_workers == 0
    assert "open (source)" in one.notes[0]
    opened.close()


def test_what_is_opened_after_the_loader_was_built_counts_too(
    process: Process, tmp_path: Path
) -> None:
    path = tmp_path / "samples"
    path.write_bytes(bytes(LENGTH))
    dataset = Numbers()
    applied(process, num_workers=2)
    loader = DataLoader(dataset, BATCH)
    assert loader.num_workers == 2
    with path.open("rb") as dataset.source:  # type: ignore[attr-defined]
        assert sum(len(batch) for batch in loader) == LENGTH
    assert loader.num_workers == 0
    assert dataset.made == LENGTH


def test_a_data_set_with_a_thread_gets_no_workers(process: Process) -> None:
    dataset = Numbers()
    dataset.thread = threading.Thread()  # type: ignore[attr-defined]
    one = applied(process, num_workers=2)
    assert DataLoader(dataset, BATCH).num_workers == 0
    assert "keeps a thread (thread)" in one.notes[0]


def test_a_run_is_followed_by_one_as_bare_as_before(process: Process) -> None:
    bare = order(DataLoader(Numbers(), BATCH, shuffle=True))
    applied(process, num_workers=2)
    order(DataLoader(Numbers(raises), BATCH, shuffle=True))
    assert process.undo() == []
    loader = DataLoader(Numbers(), BATCH, shuffle=True)
    assert loader.num_workers == 0
    assert order(loader) == bare
