"""What the second thread sees of the training thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from speedprof.profiler.stack_sampler import StackSampler, interval_s

LONG_S = 0.3


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def batches() -> Iterator[None]:
    spin(LONG_S)
    yield


def sampled(work: object) -> tuple[list[str], dict[str, list[int]]]:
    """Return the functions seen innermost or above, and the columns."""
    sampler = StackSampler(threading.current_thread())
    sampler.start()
    try:
        assert callable(work)
        work()
    finally:
        columns = sampler.stop()
    frames, _ = sampler.tables()
    return [str(frame[2]) for frame in frames], {n: c.tolist() for n, c in columns.items()}


def test_the_running_function_is_seen_with_its_cpu_time() -> None:
    names, columns = sampled(lambda: spin(LONG_S))
    assert "spin" in names
    assert 0 < sum(columns["cpu"]) <= (LONG_S + 1) * 1e9
    assert columns["at"] == sorted(columns["at"])


def test_a_generator_is_known_as_one() -> None:
    sampler = StackSampler(threading.current_thread())
    sampler.start()
    list(batches())
    sampler.stop()
    generators = {str(frame[2]): frame[3] for frame in sampler.tables()[0]}
    assert generators["batches"] is True
    assert generators["spin"] is False


def test_a_sleeping_thread_uses_no_cpu() -> None:
    _, columns = sampled(lambda: time.sleep(LONG_S))
    assert sum(columns["cpu"]) < LONG_S * 1e9 / 3


def test_the_interpreters_switch_interval_comes_back() -> None:
    before = sys.getswitchinterval()
    sampled(lambda: spin(0.02))
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize(
    ("step_ms", "wait_ms"), [(0.2, 0.5), (1.4, 0.5), (8.0, 1.0), (24.0, 3.0), (500.0, 5.0)]
)
def test_short_steps_are_looked_at_more_often(step_ms: float, wait_ms: float) -> None:
    assert interval_s(int(step_ms * 1e6)) == pytest.approx(wait_ms / 1e3)
