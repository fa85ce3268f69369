"""Real traces against interval arithmetic that others did: within 0.1 % of the window."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speedprof.profiler import trace_file, trace_steps, trace_windows
from speedprof.profiler.device_use import DeviceUse, device_use
from speedprof.profiler.intervals import NOTHING
from speedprof.profiler.reduction import reduce_window
from speedprof.profiler.trace_json import UnreadableTraceError

TRACES = Path(__file__).parent.parent.parent / "shared" / "traces"
REFERENCE = TRACES / "reference.json"
NAMES = {
    "window_ms": "wall", "busy_ms": "busy", "idle_ms": "idle", "compute_ms": "compute",
    "comm_ms": "communication", "overlap_ms": "overlap",
    "exposed_comm_ms": "exposed_communication", "memcpy_ms": "copies",
    "memcpy_HtoD_ms": "to_device", "memcpy_DtoH_ms": "to_host", "memcpy_DtoD_ms": "on_device",
    "exposed_memcpy_ms": "exposed_copies", "memset_ms": "memset", "dataloader_ms": "loader",
    "dataloader_and_gpu_idle_ms": "loader_idle",
}  # fmt: skip
TOLERANCE = 0.001  # of the window


@cache
def references() -> dict[str, Any]:
    return json.loads(REFERENCE.read_text()) if REFERENCE.is_file() else {}


def files() -> list[Any]:
    missing = pytest.mark.skip(reason=f"the recorded traces are not in {TRACES}")
    return sorted(references()) or [pytest.param("none", marks=missing)]


def known_files() -> list[Any]:
    found = sorted(name for name, said in references().items() if said["reference"])
    return found or files()


def use_of(trace: trace_file.Trace, boundaries: Any) -> list[DeviceUse]:
    steps = trace_steps.steps(trace)
    activity = trace_windows.gpu_activity(trace, steps)
    assert activity is not None
    loader = trace_windows.probes(trace, steps).get("input_wait", NOTHING)
    at = np.asarray(boundaries, np.int64)
    return device_use(activity, trace.names, loader, at, calls=NOTHING)


def off(found: DeviceUse, expected: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return what differs by more than the tolerance: (expected, found) in ms."""
    bar = TOLERANCE * expected["window_ms"]
    pairs = {name: (value, getattr(found, NAMES[name]) / 1e6) for name, value in expected.items()}
    return {name: pair for name, pair in pairs.items() if abs(pair[0] - pair[1]) > bar}


@pytest.mark.parametrize("name", known_files())
def test_the_use_of_the_gpu_is_that_of_the_reference(name: str):
    expected = references()[name]["reference"]
    trace = trace_file.read(TRACES / name)
    on_device = np.isin(trace.event["type"], list(trace_file.ON_DEVICE))
    window = (trace.event["start"][on_device].min(), trace.event["end"][on_device].max())
    assert off(use_of(trace, window)[0], expected["gpu_window"]) == {}
    steps = trace_steps.steps(trace)
    if steps.definition == trace_steps.BY_PROFILER:
        whole = steps.boundaries[[0, -1]]
        assert off(use_of(trace, whole)[0], expected["step_window"]) == {}
    for number, said in enumerate((expected.get("per_step") or {}).values()):
        found = use_of(trace, steps.boundaries)[number]
        if abs(found.wall / 1e6 - said["window_ms"]) <= TOLERANCE * said["window_ms"]:
            assert off(found, said) == {}, number


@pytest.mark.parametrize("name", files())
def test_every_trace_is_attributed_or_refused_in_one_sentence(name: str):
    try:
        trace = trace_file.read(TRACES / name)
        steps = trace_steps.steps(trace)
    except UnreadableTraceError as error:
        sentence = str(error)
    else:
        sentence = ""
        crossed = trace_windows.crossed(trace_windows.gpu_activity(trace, steps), steps)
        probed = trace_windows.probes(trace, steps)
        cut = trace_windows.windows(trace, steps, probed, crossed)
        reduced = [reduce_window(window) for window in cut]
        phases = sum(sum(sum(s) for s in step) for window in reduced for step in window.cube)
        assert phases == crossed[-1] - crossed[0]
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "name", [n for n in known_files() if "ddp" in str(n) or "2080ti" in str(n)] or files()
)
def test_windows_of_one_step_say_what_one_window_of_all_says(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    trace = trace_file.read(TRACES / name)
    steps = trace_steps.steps(trace)
    probed = trace_windows.probes(trace, steps)

    ends = trace_windows.crossed(trace_windows.gpu_activity(trace, steps), steps)

    def cubes(most: int) -> list[np.ndarray]:
        monkeypatch.setattr(trace_windows, "MOST_OF_A_WINDOW", most)
        cut = trace_windows.windows(trace, steps, probed, ends)
        return [np.array(step) for window in cut for step in reduce_window(window).cube]

    apart, together = cubes(1), cubes(10**9)
    assert len(apart) == len(together) == len(steps.boundaries) - 1
    for one, other in zip(apart, together, strict=True):
        # at a cut, an operation of the host that reaches across may get another label
        apart_by = np.abs(one.sum(axis=0) - other.sum(axis=0)).max()
        assert apart_by <= 5 * TOLERANCE * other.sum()
