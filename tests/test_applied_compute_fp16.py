"""float16 with a scaled loss: gradients keep their values, overflowing updates are left out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import in_force
import pytest
import torch
from torch import Tensor, nn

from speedprof.mitigations.applied.loss_scaling import START
from speedprof.mitigations.applied.process import Process

NAME = "fp16-autocast"
CLOSE = 0.02  # of a loss: float16 has eleven bits of mantissa
applied = partial(in_force.applied, name=NAME)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 4)
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        inside = self.first(x)
        self.seen.append(inside.dtype)
        return self.last(inside.relu())


def losses(
    *, accumulate: int = 1, clip: float | None = None, times: float = 1.0, steps: int = 8,
    optimizer: Any = torch.optim.AdamW,
) -> tuple[Net, list[float]]:  # fmt: skip
    """Train from a fixed seed; return the model and its losses."""
    torch.manual_seed(0)
    model = Net()
    update = optimizer(model.parameters(), lr=1e-2)
    found = []
    for _ in range(steps):
        update.zero_grad()
        for _ in range(accumulate):
            loss = (model(torch.randn(16, 16)) - 1.0).square().mean() * times / accumulate
            loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        update.step()
        found.append(loss.item())
    return model, found


@pytest.mark.parametrize("how", [{}, {"accumulate": 3}, {"clip": 0.1}, {"times": 1e-6}])
def test_losses_stay_close(process: Process, how: dict[str, Any]) -> None:
    _, bare = losses(**how)
    one = applied(process)
    model, half = losses(**how)
    assert set(model.seen[1:]) == {torch.float16}  # the first pass had begun when it was found
    assert one.effects == 1
    assert half != bare
    assert half == pytest.approx(bare, rel=CLOSE)


def test_gradients_are_true_after_each_backward_pass(process: Process) -> None:
    torch.manual_seed(0)
    model, x = Net(), torch.randn(16, 16)
    torch.optim.SGD(model.parameters(), lr=0.1)

    def backward() -> list[Tensor]:
        model(x).square().mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    bare = [backward(), backward()]  # the second adds up
    model.zero_grad()
    applied(process)
    for expected in bare:
        for got, wanted in zip(backward(), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0.02, atol=1e-3)


def test_gradients_too_small_for_the_type_are_not_lost(process: Process) -> None:
    torch.manual_seed(0)
    model, x = Net(), torch.randn(16, 16)
    applied(process)
    (model(x).sum() * 1e-9).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_an_update_that_overflows_is_left_out_and_the_scale_halved(process: Process) -> None:
    one = applied(process)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.randn(4, 16))
    (model(torch.randn(4, 16)).sum() * 1e6).backward()
    assert any(not p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert not optimizer.state
    assert model.first.weight.grad is not None  # is there again, as after GradScaler's step
    optimizer.zero_grad()
    model(torch.randn(4, 16)).square().mean().backward()
    optimizer.step()
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    process.finish()
    assert "1 of 2 steps were left out" in one.notes[0]


def test_it_does_what_gradscaler_does(process: Process) -> None:
    """Scale by scale, over overflows, the same updates as the recipe of torch's documentation."""

    def data() -> Iterator[tuple[Tensor, float]]:
        torch.manual_seed(1)
        for step in range(12):
            yield torch.randn(8, 16), 1e5 if step in (2, 3, 7) else 1.0

    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=START)
    for x, times in data():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            out = model(x)
        scaler.scale(out.float().square().mean() * times).backward()
        scaler.step(optimizer)
        scaler.update()
    applied(process)
    torch.manual_seed(0)
    ours = Net()
    ours(torch.zeros(1, 16))
    update = torch.optim.SGD(ours.parameters(), lr=0.01)
    for x, times in data():
        update.zero_grad()
        (ours(x).square().mean() * times).backward()
        update.step()
    for mine, theirs in zip(ours.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_scaler_of_the_scripts_own_is_left_to_it(process: Process) -> None:
    def trained() -> list[float]:
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu")
        found = []
        for _ in range(4):
            with torch.autocast("cpu", dtype=torch.float16):
                loss = model(torch.randn(8, 16)).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            found.append(loss.item())
        return found

    bare = trained()
    one = applied(process)
    assert trained() == bare
    assert one.notes == ["the script has a GradScaler of its own, which scales the loss"]


def test_a_model_in_half_precision_already_stays(process: Process) -> None:
    one = applied(process)
    model = Net().to(torch.bfloat16)
    model(torch.randn(4, 16, dtype=torch.bfloat16)).sum().backward()
    assert one.effects == 0
    assert one.notes == ["the model is in torch.bfloat16 already"]


def test_after_undoing_training_is_as_it_was(process: Process) -> None:
    _, bare = losses()
    applied(process)
    losses()
    process.undo()
    assert losses()[1] == bare
    assert torch.autograd.backward.__module__ == "torch.autograd"


@pytest.mark.gpu
def test_on_a_gpu_losses_stay_close(process: Process) -> None:
    def trained() -> list[float]:
        torch.manual_seed(0)
        model = Net().cuda()
        update = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        found = []
        for _ in range(8):
            update.zero_grad()
            loss = (model(torch.randn(16, 16, device="cuda")) - 1.0).square().mean()
            loss.backward()
            update.step()
            found.append(loss.item())
        return found

    bare = trained()
    one = applied(process)
    assert trained() == pytest.approx(bare, rel=CLOSE)
    assert one.effects == 1
