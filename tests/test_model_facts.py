"""What a model is found to be made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from speedprof.profiler.model_facts import identity, inside
from speedprof.tests.small_models import layers


def test_a_models_modules_are_counted_by_class() -> None:
    model = layers()
    model[0].weight.requires_grad_(False)
    found = inside(model)
    assert found["modules"] == {"Sequential": 1, "Linear": 2, "ReLU": 1}
    assert found["trainable"] == 8 + 16 + 2
    assert found["exchange"] is None


class Held(nn.Module):
    """A model that has a part called `module`, and is no wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.module = layers()


@pytest.mark.usefixtures("group_of_one")
def test_a_model_is_named_as_its_author_would() -> None:
    parallel = nn.parallel.DistributedDataParallel
    for model in (torch.compile(parallel(layers())), parallel(torch.compile(layers()))):
        assert identity(model) == {
            "name": "Sequential",
            "compiled": True,
            "wrapped": "DistributedDataParallel",
        }
    assert identity(Held()) == {"name": "Held", "compiled": False, "wrapped": None}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: nn.Conv2d(3, 8, 3), False),
        (lambda: nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last), True),
        (lambda: nn.Conv2d(3, 8, 1), None),  # both layouts are the same bytes
        (lambda: nn.Linear(8, 8), None),
    ],
)
def test_the_layout_of_convolutions_is_told_where_layouts_differ(
    model: Callable[[], Any], expected: bool | None
) -> None:
    assert inside(model())["channels_last"] is expected


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (lambda: [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)], 1),
        (lambda: [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)], 0),
        (lambda: [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)], 0),
    ],
)
def test_a_bias_that_a_batch_norm_cancels_is_counted(
    chain: Callable[[], list[Any]], expected: int
) -> None:
    assert inside(nn.Sequential(*chain()))["biased_before_norm"] == expected


def test_large_sizes_that_are_no_multiples_of_eight_are_listed() -> None:
    model = nn.ModuleList([nn.Embedding(50257, 768), nn.Linear(768, 1001), nn.Linear(30, 7)])
    assert inside(model)["odd_dims"] == [1001, 50257]


def test_a_model_that_says_whether_it_checkpoints_is_believed() -> None:
    model = layers()
    assert inside(model)["checkpointed"] is None
    model[1].gradient_checkpointing = False
    assert inside(model)["checkpointed"] is False
    model[0].gradient_checkpointing = True
    assert inside(model)["checkpointed"] is True
