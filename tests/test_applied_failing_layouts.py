"""Layouts, fused updates, attention and checkpoints that do not fit: they are given up."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from failing_cases import WIDTH, Net, losses
from in_force import applied
from torch import Tensor, nn

from speedprof.mitigations.applied.process import Process

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


# -- layouts


def stepped(model: Any, optimizer: Any, steps: int) -> list[float]:
    """Train on small images; return the losses."""
    found = []
    for _ in range(steps):
        loss = model(torch.randn(2, 3, 8, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


class Viewing(nn.Module):
    """As the tutorials write it: what a convolution gives is viewed as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4 * 6 * 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.layer(x))
        return self.last(seen.view(seen.size(0), 4 * 6 * 6))


def test_a_model_that_needs_its_layout_keeps_it(process: Process) -> None:
    _, bare = losses(Viewing, shape=(3, 8, 8))
    one = applied(process, "channels-last")
    model, found = losses(Viewing, shape=(3, 8, 8))
    assert found == pytest.approx(bare, rel=1e-5)
    assert model.layer.weight.is_contiguous()
    assert one.effects == 0
    assert one.notes[0].startswith("Viewing fails with channels last and keeps its layout: Run")


@pytest.mark.parametrize("fused", [True, False])
def test_what_an_optimizer_keeps_follows_the_layout_of_its_weights(
    process: Process, fused: bool
) -> None:
    def trained(undo: Any = None) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=fused)
        found = stepped(model, optimizer, 5)
        if undo is not None:
            undo()
        return found + stepped(model, optimizer, 3)

    bare = trained()
    one = applied(process, "channels-last")
    assert trained(process.undo) == pytest.approx(bare, rel=1e-4)
    assert one.effects == 1


@pytest.mark.parametrize("view", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_ranks_exchange_true_gradients_whatever_the_layout(
    process: Process, group_of_one: None, view: bool, fused: bool
) -> None:
    def trained() -> list[float]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3))
        model = nn.parallel.DistributedDataParallel(layers, gradient_as_bucket_view=view)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=fused)
        return stepped(model, optimizer, 8)

    bare = trained()
    one = applied(process, "channels-last")
    assert trained() == pytest.approx(bare, rel=1e-4)
    assert one.effects == view
    assert [note[:59] for note in one.notes] == (
        [] if view else ["Sequential keeps its layout: the buckets of DistributedData"]
    )


# -- optimizers


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad])
def test_an_optimizer_whose_gradients_are_sparse_is_not_fused(process: Process, kind: Any) -> None:
    def trained() -> tuple[Any, list[float]]:
        torch.manual_seed(0)
        words = nn.Embedding(20, 4, sparse=True)
        optimizer = kind(words.parameters(), lr=0.1)
        found = []
        for _ in range(5):
            loss = words(torch.randint(20, (6,))).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return optimizer, found

    _, bare = trained()
    one = applied(process, "fused-optimizer")
    optimizer, found = trained()
    assert found == pytest.approx(bare, rel=1e-6)
    assert not optimizer.param_groups[0]["fused"]
    assert one.effects == 0
    assert one.notes == [f"{kind.__name__} cannot be fused: gradients of it are sparse"]


@pytest.mark.parametrize("resumed", [True, False])
def test_an_optimizer_that_resumes_with_another_layout_is_not_fused(
    process: Process, resumed: bool
) -> None:
    def trained(state: Any = None) -> tuple[Any, list[float]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        if state is not None:
            optimizer.state.update(zip(model.parameters(), state, strict=True))
        model.to(memory_format=torch.channels_last)
        return optimizer, stepped(model, optimizer, 5)

    held = trained()[0].state.values() if resumed else []

    def kept() -> Any:  # as a run that knew nothing of layouts had saved it
        return [{n: t.contiguous().clone() for n, t in one.items()} for one in held] or None

    _, bare = trained(kept())
    one = applied(process, "fused-optimizer")
    optimizer, found = trained(kept())
    assert found == pytest.approx(bare, rel=1e-4)
    assert bool(optimizer.param_groups[0]["fused"]) is not resumed
    assert one.effects == (0 if resumed else 1)
    assert len(one.notes) == resumed


# -- attention


def test_attention_that_the_kernel_refuses_later_runs_as_it_is_written(process: Process) -> None:
    import attentions

    torch.manual_seed(0)
    model = attentions.Model(attentions.Masked)
    x = torch.randn(attentions.BATCH, attentions.LENGTH, attentions.WIDTH)
    small = torch.zeros(attentions.BATCH, 1, 1, attentions.LENGTH, dtype=torch.bool)
    # an axis more, which broadcasts where it is written out
    large = torch.zeros(2, 1, 1, 1, attentions.LENGTH, dtype=torch.bool)[:, 0]
    bare = [model(x, small), model(x[:2], large)]
    one = applied(process, "fused-attention")
    model(x, small)
    kernel = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = refusing
    try:
        found = [model(x, small), model(x[:2], large)]
    finally:
        torch.nn.functional.scaled_dot_product_attention = kernel
    for expected, got in zip(bare, found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert one.effects == 0
    why = "RuntimeError: this head dim is not supported"
    assert one.notes == [f"Masked fails in one kernel and runs as it is written: {why}"]


def refusing(*_arguments: Any, **_keywords: Any) -> Tensor:
    raise RuntimeError("this head dim is not supported")


class Config:
    _attn_implementation = "eager"


class Theirs(Net):
    """A model that is switched as those of transformers are, and fails once it is."""

    _supports_sdpa = True

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def forward(self, x: Tensor) -> Any:
        if self.config._attn_implementation == "sdpa":
            raise RuntimeError("no fused attention for this bias")
        return super().forward(x)


def test_a_model_of_transformers_that_fails_when_it_is_switched_is_switched_back() -> None:
    from speedprof.profiler.fence import Fence

    _, bare = losses(Theirs)
    said: list[str] = []
    process = Process(Fence(said.append), {})
    process.apply([{"name": "fused-attention"}])
    try:
        model, found = losses(Theirs)
    finally:
        process.undo()
    assert found == bare
    assert model.config._attn_implementation == "eager"
    assert "no fused attention for this bias" in said[0]


class Weighing(Theirs):
    """Gives its weights where they are asked for, if they are written out."""

    def forward(self, x: Tensor, *, output_attentions: bool = False) -> Any:
        made = Net.forward(self, x)
        written_out = self.config._attn_implementation == "eager"
        weights = (torch.ones(1),) if output_attentions and written_out else ()
        return {"out": made, "attentions": weights}


def test_weights_that_are_asked_for_are_given(process: Process) -> None:
    one = applied(process, "fused-attention")
    model, x = Weighing(), torch.randn(4, WIDTH)
    for _ in range(2):
        model(x)  # the first pass had begun when the model was found
    assert one.notes == []
    assert (one.effects, model.config._attn_implementation) == (1, "sdpa")
    assert len(model(x, output_attentions=True)["attentions"]) == 1
    assert one.effects == 0
    process.undo()
    always = applied(process, "fused-attention")
    model = Weighing()
    for _ in range(3):
        assert len(model(x, output_attentions=True)["attentions"]) == 1
    assert always.notes == ["Weighing stays as it is: it returns something else"]


# -- activation checkpointing


class Drawing(nn.Module):
    """Draws from Python what it does, as layers that are left out at random."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        if random.random() < 0.5:
            return x * random.random() * 1.0
        return x + self.layer(x) * random.random()


class Writing(Drawing):
    """Writes to what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        x += 0.5
        return self.layer(x)


class Normed(nn.Module):
    """Steps on in its norm at each pass."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
        self.layer = nn.Sequential(layer, nn.GELU(), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def stack(kind: Any) -> Any:
    return lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), *(kind() for _ in range(3)))


@pytest.mark.parametrize(("kind", "stays"), [(Drawing, False), (Writing, True), (Normed, True)])
def test_blocks_that_do_more_than_compute_train_bit_for_bit_alike(
    process: Process, kind: Any, stays: bool
) -> None:
    _, bare = losses(stack(kind))
    one = applied(process, "activation-checkpointing")
    _, found = losses(stack(kind))
    assert found == bare
    assert one.effects == (0 if stays else 3)
    left = f"{kind.__name__} stays as it is: it writes to its inputs or buffers"
    assert one.notes == ([left] if stays else [])
