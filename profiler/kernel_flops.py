"""Which kernels did the FLOPs that a trace's operators recorded, and how long they took.

A kernel belongs to the operator that launched it: the runtime call with its correlation lies
inside that operator on the same thread, or, without a runtime call, the operator that its
External id names. An operator inside another counted one is part of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler import reduced
from speedprof.profiler.operators import ARITHMETIC, kind
from speedprof.profiler.precision import precision
from speedprof.profiler.window_file import COPY, CPU_OP, DRIVER, KERNEL, MEMSET, RUNTIME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.intervals import Times
    from speedprof.profiler.window_phases import Explained
    from speedprof.profiler.window_reading import Window

NONE = -1
LARGEST = 1 << 62  # of a sum, so that damaged times and shapes still fit where integers must
_UNKNOWN = ""  # precision


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operators:
    """Outermost operators with known FLOPs, sorted by thread and start; columns."""

    name: Times
    thread: Times
    start: Times
    end: Times
    flops: Times

    def around(self, thread: Times, moment: Times) -> NDArray[np.int64]:
        """Return the operator that each moment on a thread lies in, or NONE."""
        found = np.full(len(moment), NONE, np.int64)
        for one in np.unique(self.thread):
            mine = np.flatnonzero(self.thread == one)
            there = np.flatnonzero(thread == one)
            at = mine[0] + np.searchsorted(self.start[mine], moment[there], "right") - 1
            inside = (at >= mine[0]) & (moment[there] < self.end[np.maximum(at, 0)])
            found[there[inside]] = at[inside]
        return found


def arithmetic(window: Window, explained: Explained) -> list[reduced.Arithmetic]:
    """Sum up FLOPs and kernel time by kind of work and precision; empty: no FLOPs recorded."""
    device = explained.device
    recorded = window.event["flops"] > 0
    if device is None or not recorded.any():
        return []
    operators = _outermost(window, recorded)
    on_device = window.of_type(KERNEL) | window.of_type(COPY) | window.of_type(MEMSET)
    kernels = np.flatnonzero(on_device)[device.kernel]
    launched_by = operators.around(*_launches(window, kernels))
    start = window.event["start"][kernels]
    length = window.event["end"][kernels] - start
    first = np.full(len(operators.name), np.iinfo(np.int64).max)
    counted = launched_by >= 0
    np.minimum.at(first, launched_by[counted], start[counted])
    begun = start.copy()
    begun[counted] = first[launched_by[counted]]
    inside = (begun >= explained.boundaries[0]) & (begun < explained.boundaries[-1])
    return _summed(
        window.header.names,
        operators,
        name=window.event["name"][kernels][inside],
        length=length[inside],
        launched_by=launched_by[inside],
    )


def _outermost(window: Window, recorded: NDArray[np.bool_]) -> _Operators:
    event = window.event
    thread, start, end = (event[name][recorded] for name in ("thread", "start", "end"))
    order = np.lexsort((-end, start, thread))
    keep = []
    current, until = None, 0
    for index, on, begins, ends in zip(
        order.tolist(),
        thread[order].tolist(),
        start[order].tolist(),
        end[order].tolist(),
        strict=True,
    ):
        if on != current or begins >= until:
            keep.append(index)
            current, until = on, ends
    return _Operators(
        name=event["name"][recorded][keep],
        thread=thread[keep],
        start=start[keep],
        end=end[keep],
        flops=event["flops"][recorded][keep],
    )


def _launches(window: Window, kernels: NDArray[np.int64]) -> tuple[Times, Times]:
    """Return thread and time of each kernel's launch, NONE as thread where nothing tells."""
    event = window.event
    calls = np.flatnonzero(window.of_type(RUNTIME, DRIVER))
    named = np.flatnonzero(window.of_type(CPU_OP) & (event["linked"] > 0))
    launch = _first_with(event["correlation"], calls, event["correlation"][kernels])
    by_name = _first_with(event["linked"], named, event["linked"][kernels])
    launch = np.where(launch >= 0, launch, by_name)
    known = launch >= 0
    thread = np.where(known, event["thread"][launch], NONE)
    return thread, np.where(known, event["start"][launch], 0)


def _first_with(column: Times, among: NDArray[np.int64], wanted: Times) -> NDArray[np.int64]:
    """Return the first event among these whose column has the wanted value, or NONE."""
    values, first = np.unique(column[among], return_index=True)
    if not len(values):
        return np.full(len(wanted), NONE, np.int64)
    at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    found: NDArray[np.int64] = np.where(
        (values[at] == wanted) & (wanted > 0), among[first[at]], NONE
    )
    return found


def _summed(
    names: list[str],
    operators: _Operators,
    *,
    name: Times,
    length: Times,
    launched_by: NDArray[np.int64],
) -> list[reduced.Arithmetic]:
    kinds = {number: kind(names[number]) for number in np.unique(name).tolist()}
    precisions = {number: precision(names[number]) for number in kinds}
    sums: dict[tuple[str, str], list[int]] = {}
    longest: dict[int, tuple[int, str]] = {}
    counted_ns: dict[int, int] = {}
    for number, ns, operator in zip(
        name.tolist(), length.tolist(), launched_by.tolist(), strict=True
    ):
        found = precisions[number]
        if operator == NONE:
            if kinds[number] in ARITHMETIC:
                sums.setdefault((kinds[number], found or _UNKNOWN), [0, 0, 0])[0] += ns
            continue
        counted_ns[operator] = counted_ns.get(operator, 0) + ns
        # a kernel that only moves values about tells nothing of how they are multiplied
        if found and kinds[number] in ARITHMETIC:
            longest[operator] = max(longest.get(operator, (0, _UNKNOWN)), (ns, found))
    for operator, ns in counted_ns.items():
        of_kind = kind(names[int(operators.name[operator])])
        key = (of_kind, longest.get(operator, (0, _UNKNOWN))[1])
        entry = sums.setdefault(key, [0, 0, 0])
        entry[0] += ns
        entry[1] += ns
        entry[2] += int(operators.flops[operator])
    return [_entry(of, by, entry) for (of, by), entry in sorted(sums.items())]


def _entry(of: str, by: str, sums: list[int]) -> reduced.Arithmetic:
    ns, counted, flops = (min(value, LARGEST) for value in sums)
    return reduced.Arithmetic(
        kind=of, precision=by, ns=ns, counted_ns=counted, flops=flops if counted else 0
    )
