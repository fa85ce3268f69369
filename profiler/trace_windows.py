"""A recorded trace cut into windows like those of a live run, which the same code then explains.

What probes tell in a live run is told here by annotations: waiting for a batch, optimizer steps;
a backward pass is where autograd's own threads are at work (or, on the CPU, autograd's operators
of the training thread). A window is a few whole steps: memory is bounded by one window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler import window_file, window_reading
from speedprof.profiler.device_activity import crossings, device_activity
from speedprof.profiler.intervals import NOTHING, Spans, spans
from speedprof.profiler.trace_file import ON_DEVICE, TYPES
from speedprof.profiler.trace_steps import AUTOGRAD, LOADER, OPTIMIZER, ZERO_GRAD
from speedprof.profiler.window_reading import Header, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from speedprof.profiler.device_activity import DeviceActivity
    from speedprof.profiler.intervals import Times
    from speedprof.profiler.trace_file import Trace
    from speedprof.profiler.trace_steps import Steps

MOST_OF_A_WINDOW = 300_000  # events; a window has one step at least
# Between two operators of one backward pass autograd's thread only looks for the next one
BACKWARD_GAP = 1_000_000  # ns
PROBED = {"input_wait": LOADER, "optimizer": OPTIMIZER, "zero_grad": ZERO_GRAD}
NO_LAUNCH = -1  # correlation of a device event that says none; no call has it
EVENT_COLUMNS = ("name", "type", "thread", "device", "stream", "correlation", "linked", "bytes")


def probes(trace: Trace, steps: Steps) -> dict[str, Spans]:
    """Return where the training thread was, as far as annotations tell."""
    here = trace.event["thread"] == steps.thread
    found = {name: _spans(trace, trace.named(mark) & here) for name, mark in PROBED.items()}
    found["backward"] = _backward(trace, steps.thread)
    return {name: part for name, part in found.items() if len(part)}


def windows(
    trace: Trace,
    steps: Steps,
    probed: dict[str, Spans],
    ends: Times,
    *,
    who: tuple[str, int, int] = ("recorded", 1, 0),
) -> Iterator[Window]:
    """Yield the trace's windows, each of whole steps and of bounded size.

    `ends`: where the device crosses the steps' boundaries; `who`: host, process and rank. Left
    out are windows that the device crosses in no time: it was still at work on earlier ones.
    """
    host, pid, rank = who
    start, end = trace.event["start"], trace.event["end"]
    for index, (first, last) in enumerate(_cuts(start, steps.boundaries)):
        if ends[last] <= ends[first]:
            continue
        low, high = steps.boundaries[first], max(steps.boundaries[last], ends[last])
        chosen = np.flatnonzero((end >= low) & (start <= high))
        header = Header(
            format=window_file.FORMAT,
            host=host,
            pid=pid,
            rank=rank,
            device="cuda" if trace.on_device().any() else "cpu",
            index=index,
            first_step=steps.first + first,
            boundaries=steps.boundaries[first : last + 1].tolist(),
            clock=[(0, 0)],
            thread=steps.thread,
            names=trace.names,
            types=list(TYPES),
            columns=[],
            probes=list(probed),
            groups=trace.groups,
        )
        tables = {
            "event": _events(trace, chosen),
            "probe": _probe_table(probed, int(low), int(high)),
            "sample": {name: np.zeros(0, np.int64) for name in window_file.SAMPLE_COLUMNS},
        }
        yield window_reading.window(header, tables)


def _cuts(start: Times, boundaries: Times) -> list[tuple[int, int]]:
    """Return windows as (first step, step after the last), by the number of their events."""
    counts = np.diff(np.searchsorted(np.sort(start), boundaries))
    cuts, first, held = [], 0, 0
    for step, count in enumerate(counts.tolist()):
        if held and held + count > MOST_OF_A_WINDOW:
            cuts.append((first, step))
            first, held = step, 0
        held += count
    return [*cuts, (first, len(counts))]


def gpu_activity(trace: Trace, steps: Steps) -> DeviceActivity | None:
    """Return what the device did in the whole trace; None where it did nothing."""
    called = trace.of_type(window_file.RUNTIME, window_file.DRIVER)
    chosen = np.flatnonzero(trace.on_device() | called)
    header = Header(
        format=window_file.FORMAT, host="", pid=0, index=0, first_step=0, clock=[(0, 0)],
        boundaries=steps.boundaries.tolist(), thread=steps.thread, names=trace.names,
        types=list(TYPES), columns=[], groups=trace.groups,
    )  # fmt: skip
    tables = {
        "event": _events(trace, chosen),
        "probe": _probe_table({}, 0, 0),
        "sample": {name: np.zeros(0, np.int64) for name in window_file.SAMPLE_COLUMNS},
    }
    return device_activity(window_reading.window(header, tables))


def crossed(activity: DeviceActivity | None, steps: Steps) -> Times:
    """Return where the device crosses the steps' boundaries."""
    return steps.boundaries if activity is None else crossings(activity, steps.boundaries)


def _events(trace: Trace, chosen: NDArray[np.int64]) -> dict[str, Times]:
    """Return the chosen events as a window's columns."""
    event = {name: trace.event[name][chosen].astype(np.int64) for name in EVENT_COLUMNS}
    event["start"] = trace.event["start"][chosen]
    event["duration"] = trace.event["end"][chosen] - event["start"]
    on_device = np.isin(event["type"], list(ON_DEVICE))
    event["device"] = np.where(on_device, np.maximum(event["device"], 0), -1)
    unlaunched = np.where(on_device, NO_LAUNCH, 0)
    event["correlation"] = np.where(event["correlation"] > 0, event["correlation"], unlaunched)
    event["thread"] = np.where(on_device, -1, event["thread"])
    event["stream"] = np.where(on_device, event["stream"], -1)
    event["is_async"] = np.zeros(len(chosen), np.int64)
    sparse = {"flops": trace.flops, "group": trace.group, "sequence": trace.sequence}
    for name, absent in window_file.OPTIONAL_EVENT_COLUMNS.items():
        event[name] = _dense(sparse[name], chosen, absent)
    return event


def _dense(known: dict[int, int], chosen: NDArray[np.int64], absent: int) -> Times:
    column = np.full(len(chosen), absent, np.int64)
    if known and len(chosen):
        numbers = np.fromiter(known, np.int64, len(known))
        values = np.fromiter(known.values(), np.int64, len(known))
        at = np.searchsorted(chosen, numbers)
        inside = (at < len(chosen)) & (chosen[np.minimum(at, len(chosen) - 1)] == numbers)
        column[at[inside]] = values[inside]
    return column


def _probe_table(probed: dict[str, Spans], low: int, high: int) -> dict[str, Times]:
    clipped = [part.clip(low, high + 1) for part in probed.values()]
    what = [np.full(len(part), number, np.int64) for number, part in enumerate(clipped)]
    empty = np.zeros(0, np.int64)
    start = np.concatenate([empty, *(part.start for part in clipped)])
    return {
        "what": np.concatenate([empty, *what]),
        "start": start,
        "end": np.concatenate([empty, *(part.end for part in clipped)]),
        "detail": np.full(len(start), -1, np.int64),
    }


def _backward(trace: Trace, thread: int) -> Spans:
    """Return where autograd works, a pass at a time."""
    operators = trace.of_type(window_file.CPU_OP)
    named = operators & trace.named(AUTOGRAD)
    elsewhere = named & (trace.event["thread"] != thread)
    if elsewhere.any():
        threads = np.unique(trace.event["thread"][elsewhere])
        named = operators & np.isin(trace.event["thread"], threads)
    worked = _spans(trace, named)
    if not len(worked):
        return NOTHING
    return spans(worked.start, np.append(_bridged(worked), worked.end[-1:]))


def _bridged(worked: Spans) -> Times:
    """Return each span's end, or the next one's start where that is near."""
    gap = worked.start[1:] - worked.end[:-1]
    return np.where(gap <= BACKWARD_GAP, worked.start[1:], worked.end[:-1])


def _spans(trace: Trace, chosen: NDArray[np.bool_]) -> Spans:
    return spans(trace.event["start"][chosen], trace.event["end"][chosen])
