"""What the batches of a training are found to be: shapes, types, padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from speedprof.profiler.batch_facts import LOOKED_AT, BatchFacts, trailing_padding


def test_batches_are_described_by_the_first_and_counted_by_their_shapes() -> None:
    seen = BatchFacts()
    for length in (5, 7, 5):
        seen.look({"x": torch.zeros(2, length), "y": [torch.zeros(2, dtype=torch.uint8)]})
    assert seen.fact(3) == {
        "number": 3,
        "shapes": [[2, 5], [2]],
        "dtypes": ["float32", "uint8"],
        "distinct": 2,
        "looked_at": 3,
        "padding": None,
    }


@pytest.mark.parametrize(
    ("last", "distinct"),
    [
        ([3, 5], 1),
        ([4, 6], 2),  # longer rows
        ([5, 5], 2),  # more samples
    ],
)
def test_the_smaller_last_batch_of_an_epoch_is_no_other_shape(
    last: list[int], distinct: int
) -> None:
    seen = BatchFacts()
    for _epoch in range(2):
        for shape in ([4, 5], [4, 5], last):
            seen.look(torch.zeros(shape))
        seen.ended()
    fact = seen.fact(0)
    assert fact is not None
    assert fact["distinct"] == distinct


def test_batches_that_shrink_within_an_epoch_are_of_different_shapes() -> None:
    seen = BatchFacts()
    for samples in (4, 3, 2, 4):
        seen.look(torch.zeros(samples, 5))
    seen.ended()
    fact = seen.fact(0)
    assert fact is not None
    assert fact["distinct"] == 3


def test_batches_without_tensors_are_not_described() -> None:
    seen = BatchFacts()
    seen.look(["text", {"number": 3}, object()])
    assert seen.fact(0) is None
    assert seen.left == LOOKED_AT - 1


def test_padding_is_the_share_of_the_commonest_ending() -> None:
    ids = torch.tensor([[7, 8, 9, 4], [7, 8, 0, 0], [5, 0, 0, 0]])
    assert trailing_padding(ids) == 5
    seen = BatchFacts()
    seen.look((torch.ones_like(ids), ids))  # a mask comes first and is no row of ids
    fact = seen.fact(0)
    assert fact is not None
    assert fact["padding"] == pytest.approx(5 / 12)


@pytest.mark.parametrize(
    "batch",
    [
        lambda: torch.rand(4, 8),
        lambda: torch.eye(4, dtype=torch.int64),  # classes as 0 and 1
        lambda: torch.arange(9),
        lambda: torch.zeros(2, 3, 4, dtype=torch.int64),
        lambda: torch.zeros(3, 0, dtype=torch.int64),
        lambda: torch.ones(3, 4, dtype=torch.uint8),  # pixels
    ],
)
def test_what_is_no_row_of_ids_has_no_padding(batch: Callable[[], Any]) -> None:
    assert trailing_padding(batch()) is None
