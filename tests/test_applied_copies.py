"""Copies that the host does not wait for, and batches that are on the device ahead of time.

What needs a GPU is marked so, and has not run on one yet.
"""

from __future__ import annotations

import gc
import threading
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from in_force import applied
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, _utils

from speedprof.mitigations.applied.device_prefetch import Ahead
from speedprof.mitigations.applied.pinned_tensors import (
    NO_GPU,
    Pass,
    PinnedTensors,
    cuda_destination,
    destination,
)
from speedprof.mitigations.applied.process import Applied, Process

BOTH = ("non-blocking-copies", "prefetch-to-device")
GPU = torch.device("cuda", 0)


def patched() -> tuple[Any, ...]:
    return (
        vars(torch.Tensor).get("to"),
        vars(torch.Tensor).get("cuda"),
        _utils.pin_memory.pin_memory,
    )


@pytest.mark.parametrize("name", BOTH)
def test_without_a_gpu_nothing_is_changed_and_that_is_said(
    process: Process, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = patched()
    one = applied(process, name)
    assert patched() == before
    assert (one.effects, one.notes) == (0, [NO_GPU])


@pytest.mark.parametrize("name", BOTH)
def test_copies_that_are_no_batchs_are_made_as_before(
    process: Process, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = patched()
    with monkeypatch.context() as claimed:
        claimed.setattr(torch.cuda, "is_available", lambda: True)
        one = applied(process, name)
    assert patched() != before
    tensor = torch.arange(4.0)
    assert tensor.to("cpu") is tensor
    assert tensor.to(torch.float64).dtype == torch.float64
    assert tensor.to(tensor.double(), copy=True).dtype == torch.float64
    model = nn.Linear(2, 2).to(torch.float16)
    assert model.weight.dtype == torch.float16
    with pytest.raises((TypeError, RuntimeError)):
        tensor.to("nowhere")
    list(DataLoader(TensorDataset(tensor), 2))
    process.finish()
    assert one.effects == 0
    assert "apply pin-memory" in one.notes[0]
    process.undo()
    assert patched() == before


def test_what_a_loader_pins_is_known_by_its_place_until_it_is_gone() -> None:
    found: list[tuple[Any, int]] = []
    tensors = PinnedTensors()
    source = Pass()

    def original(batch: Any, device: Any = None) -> Any:  # torch's own way, without a GPU
        if isinstance(batch, torch.Tensor):
            return batch.clone()
        return [pin(part, device) for part in batch]

    def pinned(tensor: Any, _source: Pass, place: int) -> None:
        found.append((tensors.add(tensor, source, place), place))

    pin = tensors.pinning(original, pinned)
    for _ in range(2):
        batch = pin([torch.zeros(2), [torch.ones(3)]], "cpu")
    assert [place for _, place in found] == [0, 1, 0, 1]
    assert batch[0] in tensors
    assert tensors.find(batch[1][0]) is found[-1][0]
    assert torch.zeros(2) not in tensors
    del batch
    gc.collect()
    assert all(one.tensor() is None for one, _ in found)


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (("cuda:0",), {}),
        ((), {"device": "cuda:0"}),
        ((GPU,), {}),
        ((GPU, torch.float32), {}),
    ],
)
def test_plain_copies_to_a_gpu_are_recognised(arguments: Any, keywords: Any) -> None:
    assert destination(torch.zeros(2), arguments, keywords) == GPU


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (("cpu",), {}),
        ((torch.float64,), {}),
        ((GPU, torch.float16), {}),
        ((GPU,), {"non_blocking": False}),
        ((GPU,), {"copy": True}),
        ((GPU,), {"memory_format": torch.channels_last}),
        ((torch.zeros(1),), {}),
        ((object(),), {}),
    ],
)
def test_what_is_more_than_a_plain_copy_goes_its_own_way(arguments: Any, keywords: Any) -> None:
    assert destination(torch.zeros(2, 1, 1, 1), arguments, keywords) is None


def test_plain_calls_of_cuda_are_recognised() -> None:
    assert cuda_destination((0,), {}) == GPU
    assert cuda_destination((), {"device": "cuda:0"}) == GPU
    assert cuda_destination((0, True), {}) is None
    assert cuda_destination((0,), {"non_blocking": False}) is None
    assert cuda_destination(("cpu",), {}) is None


class Stream:
    """A stream of a device that this machine has not: everything on it is done at once."""

    def __init__(self, _device: Any = None) -> None:
        self.waited: list[Any] = []

    def record_event(self) -> object:
        return object()

    def wait_event(self, event: object) -> None:
        self.waited.append(event)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    """Return copies ahead on streams of nothing; what they copy stays in host memory."""
    stream = Stream()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    return Ahead(Applied("prefetch-to-device", {}, frozenset()))


HOST = torch.device("cpu")


def copied(tensor: Any, _device: Any, **_keywords: Any) -> Any:
    return tensor.clone()


def pinned(ahead: Ahead, source: Pass, *tensors: Any) -> None:
    """Let a thread pin the tensors of a batch."""

    def pin() -> None:
        for place, tensor in enumerate(tensors):
            ahead.pinned(tensor, source, place)

    thread = threading.Thread(target=pin)
    thread.start()
    thread.join()


def test_what_was_copied_of_one_batch_is_copied_ahead_of_the_next(ahead: Ahead) -> None:
    source = Pass()
    first, second = [torch.zeros(2), torch.ones(2)], [torch.full((2,), 2.0), torch.ones(2)]
    pinned(ahead, source, *first)
    assert ahead.asked(copied, first[0], HOST) is None
    pinned(ahead, source, *second)
    assert len(source.waiting) == 1  # labels were not asked for
    copy = ahead.asked(copied, second[0], HOST)
    assert copy is not second[0]
    assert torch.equal(copy, second[0])
    assert ahead.asked(copied, second[0], HOST) is None  # a second copy is the script's own
    assert (len(source.waiting), ahead._one.effects) == (0, 1)


def test_no_more_than_two_batches_are_ahead(ahead: Ahead) -> None:
    source = Pass({0: HOST})
    ahead._copy = copied
    batches = [torch.zeros(2) for _ in range(5)]
    for batch in batches:
        pinned(ahead, source, batch)
    assert len(source.waiting) == 2
    assert [ahead.asked(copied, batch, HOST) is not None for batch in batches] == [
        *(True, True),
        *(False, False, False),
    ]


def test_a_batch_that_was_written_to_has_no_copy(ahead: Ahead) -> None:
    source = Pass({0: HOST})
    ahead._copy = copied
    batch = torch.zeros(2)
    pinned(ahead, source, batch)
    batch.add_(1.0)
    assert ahead.asked(copied, batch, HOST) is None
    assert len(source.waiting) == 0


def test_what_is_let_go_without_a_copy_is_not_copied_ahead_any_more(ahead: Ahead) -> None:
    source = Pass({0: HOST})
    ahead._copy = copied
    batch = torch.zeros(2)
    pinned(ahead, source, batch)
    del batch
    gc.collect()
    assert (source.wanted, len(source.waiting)) == ({}, 0)


# -- with a GPU


def trained(passes: int = 3, **keywords: Any) -> list[float]:
    """Train on pinned batches, from a fixed seed; return the losses."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(4096, 64), torch.randint(10, (4096,)))
    loader = DataLoader(data, 256, shuffle=True, pin_memory=True, **keywords)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(passes):
        for inputs, labels in loader:
            scores = model(inputs.to("cuda"))
            loss = nn.functional.cross_entropy(scores, labels.cuda())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.gpu
@pytest.mark.parametrize("names", [BOTH[:1], BOTH[1:], BOTH])
@pytest.mark.parametrize("workers", [0, 2])
def test_losses_are_bit_equal(process: Process, names: tuple[str, ...], workers: int) -> None:
    bare = trained(num_workers=workers)
    process.apply([{"name": name} for name in names])
    assert trained(num_workers=workers) == bare
    process.finish()
    effects = {one.name: one.effects for one in process.applied}
    assert sum(effects.values()) > 0 or (workers == 0 and names == BOTH[1:])
    assert process.undo() == []
    assert trained(num_workers=workers) == bare


@pytest.mark.gpu
def test_a_batch_that_is_written_to_is_copied_as_it_then_is(process: Process) -> None:
    applied(process, "prefetch-to-device")
    loader = DataLoader(torch.zeros(64, 8), 8, pin_memory=True, num_workers=1)
    for batch in loader:
        batch.add_(1.0)
        assert batch.to("cuda").sum().item() == batch.numel()


@pytest.mark.gpu
def test_a_copy_may_be_asked_for_twice(process: Process) -> None:
    one = applied(process, "prefetch-to-device")
    loader = DataLoader(torch.arange(640.0), 8, pin_memory=True, num_workers=1)
    for batch in loader:
        first, second = batch.to("cuda"), batch.to("cuda")
        first += 1.0
        assert torch.equal(second.cpu(), batch)
    assert one.effects > 0


@pytest.mark.gpu
def test_what_is_not_copied_is_not_kept_on_the_device(process: Process) -> None:
    applied(process, "prefetch-to-device")
    loader = DataLoader(torch.zeros(4096, 4096), 64, pin_memory=True, num_workers=1)
    for place, batch in enumerate(loader):
        if place == 0:
            batch.to("cuda")
    del batch
    gc.collect()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() < 3 * 64 * 4096 * 4
