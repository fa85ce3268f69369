"""What a training's graph tells of its precision and of layers computed again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from speedprof.profiler.graph_facts import Graph
from speedprof.tests.small_models import (
    Forward,
    autocast,
    layers,
    plain,
    recomputed,
    reentrant,
)


def graph(loss: Any) -> Graph:
    seen = Graph()
    seen.look(loss)
    return seen


@pytest.mark.parametrize(
    ("forward", "expected"),
    [(plain, "off"), (autocast, "bfloat16"), (lambda model, x: (x * model[0].bias).sum(), None)],
)
def test_mixed_precision_is_read_from_the_graph(forward: Forward, expected: str | None) -> None:
    assert graph(forward(layers(), torch.randn(4, 8))).autocast() == expected


def test_a_model_wholly_in_half_precision_is_not_mixed() -> None:
    model = layers().to(torch.bfloat16)
    assert graph(plain(model, torch.randn(4, 8, dtype=torch.bfloat16))).autocast() == "off"


def test_layers_computed_again_in_backward_are_seen() -> None:
    batch = torch.randn(4, 8)
    assert graph(reentrant(layers(), batch)).checkpointed() is True
    hooks = recomputed(layers(), batch)
    plainly = graph(plain(layers(), batch)).checkpointed()
    if hasattr(torch._C._autograd.SavedTensor, "unpack_hook"):
        assert (graph(hooks).checkpointed(), plainly) == (True, False)
    else:
        assert (graph(hooks).checkpointed(), plainly) == (None, None)


class CompiledFunction(torch.autograd.Function):
    """Stands where torch.compile puts a node of this name for a whole model."""

    @staticmethod
    def forward(ctx: Any, values: Any) -> Any:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


def test_a_compiled_graph_keeps_its_inside_to_itself() -> None:
    seen = graph(CompiledFunction.apply(torch.randn(4, 8, requires_grad=True)).sum())
    assert (seen.autocast(), seen.checkpointed()) == (None, None)


def test_looking_at_a_graph_leaves_the_gradients_as_they_would_be() -> None:
    for forward in (plain, recomputed, reentrant):
        torch.manual_seed(0)
        model, batch = layers(), torch.randn(4, 8)
        loss = forward(model, batch)
        graph(loss)
        loss.backward()
        looked = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        forward(model, batch.detach()).backward()
        assert all(torch.equal(a, p.grad) for a, p in zip(looked, model.parameters(), strict=True))
