"""The small tables of a reduced window: lines, operators, copies, batch sources."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler import operators as kinds
from speedprof.profiler import reduced
from speedprof.profiler.idle import Seen
from speedprof.profiler.labels import PHASE_OF
from speedprof.profiler.stacks import Source, code_of
from speedprof.profiler.window_phases import (
    Explained,
    blocking_copies,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from speedprof.profiler.cells import Cells
    from speedprof.profiler.window_reading import Window

CERTAIN = 1_000_000  # samples that a stack recorded at a backward pass itself counts for
MOST_LINES, MOST_OPERATORS = 200, 60  # of one window
_COMPUTE = [index for index, phase in enumerate(PHASE_OF) if phase == "compute"]


def chains(cells: Cells) -> list[reduced.Chain]:
    return [
        reduced.Chain(sources=list(sources), cube=cells.cube(cells.chain == number))
        for number, sources in enumerate(cells.chains)
    ]


def evidence(
    seen: Seen, explained: Explained, backward: Sequence[int]
) -> tuple[list[reduced.Evidence], int]:
    """Count where training went on inside a possible batch source, and samples of training.

    `backward`: stacks of backward passes, known without a sample.
    """
    loop = explained.loop
    aside = (loop.evaluation | loop.loader | loop.checkpoint).contains(seen.at)
    updating = (loop.backward | loop.optimizer).contains(seen.at)
    inside: Counter[Source] = Counter()
    known: Counter[Source] = Counter()
    training = len(backward)
    for number in backward:
        inside.update(dict.fromkeys(seen.stacks[number].sources, CERTAIN))
    for number, is_aside, is_updating in zip(
        seen.stack_at.tolist(), aside.tolist(), updating.tolist(), strict=True
    ):
        stack = seen.stacks[number]
        known.update(stack.sources)
        if is_aside:
            continue
        training += is_updating or (stack.models and not stack.inside_model)
        inside.update(stack.sources if is_updating else stack.inside_model)
    return [
        reduced.Evidence(source=source, training_inside=inside[source], samples=known[source])
        for source in sorted(known)
    ], training


def lines(cells: Cells, seen: Seen) -> list[reduced.LineTime]:
    """Return the time at each of the user's lines, largest first."""
    users = [stack.line for stack in seen.stacks]
    times: Counter[tuple[int, int, bool, int]] = Counter()
    known = cells.seen
    for stack, label, waiting, chain, length in zip(
        cells.stack[known].tolist(),
        cells.label[known].tolist(),
        cells.waiting[known].tolist(),
        cells.chain[known].tolist(),
        cells.length[known].tolist(),
        strict=True,
    ):
        times[stack, label, waiting, chain] += length
    merged: Counter[tuple[tuple[str, int, str, bool], int, bool, int]] = Counter()
    for (stack, label, waiting, chain), length in times.items():
        line = users[stack]
        if line is not None:
            merged[line, label, waiting, chain] += length
    return [
        reduced.LineTime(
            file=line[0],
            line=line[1],
            function=line[2],
            label=label,
            waiting=waiting,
            chain=chain,
            ns=length,
            code=code_of(line),
        )
        for (line, label, waiting, chain), length in merged.most_common(MOST_LINES)
    ]


def operators(window: Window, explained: Explained, cells: Cells) -> list[reduced.OperatorTime]:
    """Return the operators (CPU) or kernels (GPU) of the training by their own time."""
    name, start, own, _ = _work(window, explained)
    cell = cells.moments.at(start)
    chosen = np.isin(cells.label[cell], _COMPUTE) & _inside(explained, start)
    keys = np.column_stack((name[chosen], cells.chain[cell[chosen]]))
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    total = np.bincount(inverse, own[chosen], len(distinct)).astype(np.int64)
    calls = np.bincount(inverse, minlength=len(distinct))
    found = [
        (window.header.names[key], int(chain), int(ns), int(count))
        for (key, chain), ns, count in zip(distinct.tolist(), total, calls, strict=True)
    ]
    return _ranked(found)


def _ranked(found: list[tuple[str, int, int, int]]) -> list[reduced.OperatorTime]:
    """Keep the largest, and sum up the rest by kind, so that kinds stay whole."""
    found.sort(key=lambda entry: -entry[2])
    listed = [
        reduced.OperatorTime(name=name, kind=kinds.kind(name), ns=ns, calls=calls, chain=chain)
        for name, chain, ns, calls in found[:MOST_OPERATORS]
    ]
    rest: Counter[tuple[str, int]] = Counter()
    for name, chain, ns, _ in found[MOST_OPERATORS:]:
        rest[kinds.kind(name), chain] += ns
    return listed + [
        reduced.OperatorTime(name="", kind=kind, ns=ns, calls=0, chain=chain)
        for (kind, chain), ns in rest.items()
    ]


def calls(window: Window, explained: Explained, cells: Cells) -> int:
    """Count the outermost operators (CPU) or the kernels (GPU) of the training."""
    _, start, _, outermost = _work(window, explained)
    label = cells.label[cells.moments.at(start)]
    return int((np.isin(label, _COMPUTE) & outermost & _inside(explained, start)).sum())


def copies(window: Window, explained: Explained) -> reduced.CopyTime | None:
    """Sum up the copies to the device; None where there is none."""
    device = explained.device
    if device is None:
        return None
    length = device.end - device.start
    pinned = device.to_device & ~device.pageable
    start, end = int(explained.boundaries[0]), int(explained.boundaries[-1])
    return reduced.CopyTime(
        pinned_ns=int(length[pinned].sum()),
        pageable_ns=int(length[device.pageable].sum()),
        blocking_ns=blocking_copies(window, device).clip(start, end).total(),
        bytes=int(device.bytes[device.to_device].sum()),
    )


def _work(
    window: Window, explained: Explained
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return name, start, own time and whether outermost of what computes."""
    device = explained.device
    if device is not None:
        chosen = device.kernel | device.memory
        outermost = device.kernel[chosen]
        own = (device.end - device.start)[chosen]
        return device.name[chosen], device.start[chosen], own, outermost
    chosen = explained.in_training
    event = {name: column[chosen] for name, column in window.event.items()}
    own, depth = kinds.self_times(event["thread"], event["start"], event["end"])
    return event["name"], event["start"], own, depth == 0


def _inside(explained: Explained, start: NDArray[np.int64]) -> NDArray[np.bool_]:
    first, last = explained.boundaries[0], explained.boundaries[-1]
    inside: NDArray[np.bool_] = (start >= first) & (start < last)
    return inside
