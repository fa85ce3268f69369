"""Which thread of a recorded trace trains, and where its steps begin: told by marks or their lack.

In order: torch.profiler's own ``ProfilerStep#N``; else the loader's and the optimizer's marks (a
step begins where the first batch after an optimizer step is asked for); else optimizer steps
alone; else the whole trace is one step, and the report says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.trace_json import UnreadableTraceError
from speedprof.profiler.window_file import CPU_OP, DRIVER, RUNTIME

if TYPE_CHECKING:
    from speedprof.profiler.intervals import Times
    from speedprof.profiler.trace_file import Trace

STEP = re.compile(r"ProfilerStep#(\d+)")
LOADER = re.compile(r"enumerate\(DataLoader\)")
OPTIMIZER = re.compile(r"Optimizer\.step#")
ZERO_GRAD = re.compile(r"Optimizer\.zero_grad#")
AUTOGRAD = re.compile(r"autograd::engine|\w*Backward\d*$")
GAP = 0.5  # of a usual step; between two steps in a row is only the profiler's own work
STUB = 0.1  # of a usual step
USUAL_FROM = 3  # steps, the last one among them; a single other one may be the unusual one
BY_PROFILER = "torch.profiler's steps (ProfilerStep)"
BY_LOADER = "from one request for a batch after an optimizer step to the next"
BY_OPTIMIZER = "from one optimizer step to the next"
WHOLE = "the whole trace as one step: it marks no step, no batch and no optimizer step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The steps of a trace, on the host's clock."""

    thread: int  # the training thread, -1 where the trace has no host events
    boundaries: Times  # ns, one more than steps
    first: int  # number of the first step
    definition: str
    left_out: int = 0  # steps that were marked and are not used


def steps(trace: Trace) -> Steps:
    """Find the steps; raise UnreadableTraceError where no time passes in the trace."""
    thread = _training_thread(trace)
    profiled = _profiled(trace, thread)
    if profiled is not None:
        return profiled
    start, end = trace.event["start"], trace.event["end"]
    here = trace.event["thread"] == thread
    asked = np.sort(start[trace.named(LOADER) & here])
    updated = np.sort(end[trace.named(OPTIMIZER) & here])
    definition = BY_OPTIMIZER
    if len(asked) and len(updated):
        boundaries, definition = _by_loader(asked, updated), BY_LOADER
    elif len(updated) > 1:
        boundaries = updated
    elif len(asked) > 1:
        boundaries, definition = asked, "from one request for a batch to the next"
    else:
        boundaries, definition = _whole(trace), WHOLE
    return Steps(thread=thread, boundaries=boundaries, first=0, definition=definition)


def _profiled(trace: Trace, thread: int) -> Steps | None:
    """Return the thread's ProfilerSteps that follow each other."""
    chosen = np.flatnonzero(trace.named(STEP) & (trace.event["thread"] == thread))
    if not len(chosen):
        return None
    chosen = chosen[np.argsort(trace.event["start"][chosen], kind="stable")]
    starts, ends = trace.event["start"][chosen], trace.event["end"][chosen]
    names = trace.event["name"][chosen]
    kept = np.unique(names, return_index=True)[1]  # some exporters write a step twice
    kept.sort()
    marked = len(kept)
    kept = kept[_together(starts[kept], ends[kept])]
    boundaries = np.append(starts[kept], ends[kept].max())
    boundaries = boundaries[np.append(True, np.diff(boundaries) > 0)]
    if len(boundaries) < 2:
        return None
    number = STEP.match(trace.names[int(names[kept[0]])])
    boundaries = _without_stub(boundaries)
    return Steps(
        thread=thread,
        boundaries=boundaries,
        first=int(number.group(1)) if number else 0,
        definition=BY_PROFILER,
        left_out=marked - len(boundaries) + 1,
    )


def _together(starts: Times, ends: Times) -> slice:
    """Return the longest stretch of steps without a gap: what lies between was not recorded."""
    gap = starts[1:] - ends[:-1] > GAP * np.median(ends - starts)
    edges = np.flatnonzero(np.concatenate(([True], gap, [True])))
    longest = int(np.argmax(np.diff(edges)))
    return slice(int(edges[longest]), int(edges[longest + 1]))


def _without_stub(boundaries: Times) -> Times:
    """Leave out a last step that only began: the profiler was stopped right after it did."""
    walls = np.diff(boundaries)
    stub = len(walls) >= USUAL_FROM and walls[-1] < STUB * np.median(walls[:-1])
    return boundaries[:-1] if stub else boundaries


def _by_loader(asked: Times, updated: Times) -> Times:
    """Return the first request for a batch after each optimizer step, and where the last ends."""
    after = np.searchsorted(asked, updated, "left")
    firsts = np.unique(np.append(0, after[after < len(asked)]))
    whole = firsts[asked[firsts] < updated[-1]]
    return np.append(asked[whole], updated[-1]).astype(np.int64)


def _whole(trace: Trace) -> Times:
    """Return from the first thing that the device was asked for to the last that it did."""
    device = trace.on_device()
    asked = np.isin(trace.event["correlation"], trace.event["correlation"][device])
    asked &= trace.of_type(RUNTIME, DRIVER) & (trace.event["correlation"] != 0)
    chosen = device if device.any() else ~device
    first = trace.event["start"][chosen | asked].min()
    last = trace.event["end"][chosen].max()
    if last <= first:
        raise UnreadableTraceError(
            f"{trace.path} holds only events of no duration; record a few whole training steps"
        )
    return np.array([first, last], np.int64)


def _training_thread(trace: Trace) -> int:
    """Return the thread with the marks of a loop, else the busiest that is not autograd's."""
    thread = trace.event["thread"]
    for pattern in (STEP, LOADER, OPTIMIZER):
        found = thread[trace.named(pattern)]
        if len(found):
            return int(np.bincount(found).argmax())
    operators = trace.of_type(CPU_OP)
    autograd = np.unique(thread[operators & trace.named(AUTOGRAD)])
    for chosen in (operators & ~np.isin(thread, autograd), operators, trace.named(re.compile(""))):
        if chosen.any():
            spent = (trace.event["end"] - trace.event["start"])[chosen]
            return int(np.bincount(thread[chosen], spent).argmax())
    return -1
