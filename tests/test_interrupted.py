"""What a signal's handler raises goes its way, wherever in our code it is raised."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from speedprof.profiler.record import COLUMN
from speedprof.tests.in_process import measuring, rows
from speedprof.tests.leaks import changes, snapshot
from speedprof.tests.test_detach import LAST, WARMUP, by_loader

torch = pytest.importorskip("torch")


class Interrupted(BaseException):
    """What a signal's handler raises: anywhere, and past every `except Exception`."""


@contextmanager
def interrupted_at(line: int) -> Iterator[list[int]]:
    """Raise at the so-many-th line of `windows.py` that is run."""
    passed = [0]  # and, at the end, where it was

    def look(frame: FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.endswith("profiler/windows.py"):
            return None
        if event == "line":
            passed[0] += 1
            if passed[0] == line:
                passed.append(frame.f_lineno)
                raise Interrupted
        return look

    sys.settrace(look)
    try:
        yield passed
    finally:
        sys.settrace(None)


def test_a_signals_handler_that_raises_in_a_window_leaves_no_profiler_running(
    tmp_path: Path,
) -> None:
    before, line, passed = snapshot(), 0, [1]
    interruptible = suppress(Interrupted)
    gc.disable()  # what a collection's callback raises is lost to everybody
    while passed[0] >= line:
        line += 1 + line // 20  # the copying of events has thousands that are alike
        with measuring(tmp_path, warmup=WARMUP), interrupted_at(line) as passed, interruptible:
            by_loader(lambda _done: None)
        assert not torch.autograd._profiler_enabled(), f"raised at {passed}"
        assert changes(before, snapshot()) == [], f"raised at {passed}"
    gc.enable()
    assert line > 200


def test_time_in_the_garbage_collector_belongs_to_its_step(tmp_path: Path) -> None:
    with measuring(tmp_path, warmup=0, windows=False):
        by_loader(lambda done: [gc.collect() for _ in range(done == 5)] and None)
    collected = [row[COLUMN["garbage"]] for row in rows(tmp_path)]
    assert len(collected) == LAST
    assert collected.index(max(collected)) == 4
