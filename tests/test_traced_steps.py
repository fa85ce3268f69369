"""Traced steps that are unlike the others are named, with both lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from run_folders import rows

from speedprof.profiler.record import COLUMN
from speedprof.profiler.traced_steps import FEWEST, unlike


@dataclass(frozen=True)
class Seen:
    """What is asked of a window: where its steps begin, and how many events it holds."""

    starts: list[int]
    events: int = 0


def remarks(usual_ms: list[float], traced_ms: list[float], *, events: int = 0, wait: float = 0.0):
    usual = np.array(rows(usual_ms))
    traced = np.array(rows([ms + wait for ms in traced_ms], input_wait=[wait] * len(traced_ms)))
    window = Seen(traced[:, COLUMN["start"]].tolist(), events)
    return unlike(usual, traced, [window])


@pytest.mark.parametrize(
    ("traced_ms", "events", "wait"),
    [
        ([60.0] * 4, 0, 0.0),
        ([66.0] * 4, 0, 0.0),  # no more than medians differ
        ([90.0] * 4, 4 * 10_000, 0.0),  # 10,000 events a step explain 30 ms
        ([60.0] * 4, 0, 500.0),  # the wait for input is counted on every step
        ([9.0] * (FEWEST - 1), 0, 0.0),
    ],
)
def test_steps_like_the_others_need_no_remark(traced_ms: list[float], events: int, wait: float):
    assert remarks([60.0] * 40, traced_ms, events=events, wait=wait) == []


@pytest.mark.parametrize("traced_ms", [[30.0] * 4, [90.0] * 4])
def test_shorter_and_longer_steps_are_named_with_both_lengths(traced_ms: list[float]):
    [said] = remarks([60.0] * 40, traced_ms)
    assert f"took {traced_ms[0]:.0f} ms, the others 60 ms" in said
