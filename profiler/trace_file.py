"""A recorded trace as numpy columns, whichever PyTorch, vendor and unit of time it comes from.

Kept are the events that say when something ran: operators, annotations, runtime calls, kernels,
copies. Categories were renamed about PyTorch 1.10 ("Operator", "Kernel", "Runtime", ...), time
stamps are microseconds or, in a few exporters, nanoseconds.
"""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from speedprof.profiler.trace_flops import COUNTED, TraceFlops
from speedprof.profiler.trace_json import Arguments, TraceJson, UnreadableTraceError
from speedprof.profiler.window_file import (
    ANNOTATION,
    COPY,
    CPU_OP,
    DRIVER,
    KERNEL,
    MEMSET,
    RUNTIME,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from speedprof.profiler.trace_json import Event, Number

MOST_EVENTS = 40_000_000  # 55 bytes each; more would not fit a laptop
NANOSECONDS = 1e17  # a time stamp above this would be the year 5138 in microseconds
LONGEST = 1e15  # us, thirty years: a longer time is damage
TYPES = (CPU_OP, ANNOTATION, KERNEL, COPY, MEMSET, RUNTIME, DRIVER)
_TYPE = {name: index for index, name in enumerate(TYPES)}
CATEGORIES = {
    **_TYPE,
    "Operator": _TYPE[CPU_OP],
    "operator": _TYPE[CPU_OP],
    "Kernel": _TYPE[KERNEL],
    "Memcpy": _TYPE[COPY],
    "Memset": _TYPE[MEMSET],
    "Runtime": _TYPE[RUNTIME],
    "hip_runtime": _TYPE[RUNTIME],
    "xpu_runtime": _TYPE[RUNTIME],
    "privateuse1_runtime": _TYPE[RUNTIME],
    "xpu_driver": _TYPE[DRIVER],
    "privateuse1_driver": _TYPE[DRIVER],
}
ON_DEVICE = {_TYPE[name] for name in (KERNEL, COPY, MEMSET)}
_DIGITS = re.compile(r"-?\d+")
# bytes of the types that collectives are recorded with
_BYTES = {
    "Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2,
    "Byte": 1, "Char": 1, "Bool": 1, "Float8_e4m3fn": 1, "Float8_e5m2": 1,
    "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One trace; times are ns since its first event."""

    path: Path
    names: list[str]
    threads: list[tuple[str, str]]  # process and thread, as the file has them
    groups: list[str]  # communicators
    # name, type (of TYPES), start, end, thread, device, stream, correlation, linked, bytes
    event: dict[str, NDArray[Any]]
    flops: dict[int, int]  # event -> FLOPs, where its shapes were recorded
    group: dict[int, int]  # event -> number in groups
    sequence: dict[int, int]  # event -> number of the collective in its group
    base_us: float  # the first event's time stamp, and
    unit_ns: float  # how long one of them is
    metadata: dict[str, Any]
    damage: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.event["start"])

    @property
    def rank(self) -> int | None:
        return _whole(self._distributed().get("rank"))

    @property
    def world_size(self) -> int | None:
        return _whole(self._distributed().get("world_size"))

    @property
    def device_name(self) -> str | None:
        """Return the name of the device that the trace's kernels ran on."""
        listed = self.metadata.get("deviceProperties")
        named = [
            (entry.get("id"), entry["name"])
            for entry in (listed if isinstance(listed, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        ]
        used = self.event["device"][np.isin(self.event["type"], list(ON_DEVICE))]
        number = int(used[0]) if len(used) else -1
        return next((name for at, name in named if at == number), named[0][1] if named else None)

    def _distributed(self) -> dict[str, Any]:
        found = self.metadata.get("distributedInfo")
        return found if isinstance(found, dict) else {}


def read(path: Path, seen: Callable[[int], None] | None = None) -> Trace:
    """Read a trace; raise UnreadableTraceError where the file is none.

    `seen` is told now and then how many events there are so far.
    """
    source = TraceJson(path)
    columns = _Columns()
    for block in source.blocks():
        columns.add(block)
        if seen is not None:
            seen(columns.count)
        if columns.count > MOST_EVENTS:
            break
    if not columns.count:
        raise UnreadableTraceError(
            f"{path} holds no events of a training (operators, kernels or runtime calls); "
            "record one with torch.profiler.profile()"
        )
    return columns.trace(source)


class _Columns:
    """Events gathered as columns, a block at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.left_out = 0
        self._integer = {name: array(code) for name, code in _INTEGERS.items()}
        self._start, self._duration = array("d"), array("d")
        self._names: dict[str, int] = {}
        self._threads: dict[tuple[Number, Number], int] = {}
        self._groups: dict[str, int] = {}
        self._flops = TraceFlops()
        self._group: dict[int, int] = {}
        self._sequence: dict[int, int] = {}

    def add(self, block: list[Event]) -> None:
        known = CATEGORIES
        events = [event for event in block if event.ph == "X" and event.cat in known]
        start, duration = _floats(events, "ts"), _floats(events, "dur")
        real = [
            math.isfinite(a) and math.isfinite(b) and 0 <= b < LONGEST
            for a, b in zip(start, duration, strict=True)
        ]
        if not all(real):
            self.left_out += len(real) - sum(real)
            events = [event for event, good in zip(events, real, strict=True) if good]
            start = [value for value, good in zip(start, real, strict=True) if good]
            duration = [value for value, good in zip(duration, real, strict=True) if good]
        self._start.extend(start)
        self._duration.extend(duration)
        self._identify(events)
        self._describe(events)
        self.count += len(events)

    def _identify(self, events: list[Event]) -> None:
        names, threads, column = self._names, self._threads, self._integer
        column["name"].extend([names.setdefault(e.name or "", len(names)) for e in events])
        column["type"].extend([CATEGORIES[e.cat or ""] for e in events])
        column["thread"].extend([threads.setdefault((e.pid, e.tid), len(threads)) for e in events])

    def _describe(self, events: list[Event]) -> None:
        said = [event.args or _NOTHING for event in events]
        for name in ("device", "stream", "correlation", "bytes"):
            self._integer[name].extend(_integers([getattr(a, name) for a in said]))
        linked = [a.external if a.external is not None else a.external_1_8 for a in said]
        self._integer["linked"].extend(_integers(linked))
        for index, (event, arguments) in enumerate(zip(events, said, strict=True), self.count):
            if event.name in COUNTED:
                dims = bytes(arguments.dims or arguments.dims_1_8)
                self._flops.add(index, event.name, dims, bytes(arguments.concrete))
            if arguments.group is not None or arguments.sequence is not None:
                self._place(index, arguments)

    def _place(self, index: int, said: Arguments) -> None:
        name = said.group if not said.members else f"{said.group} {said.members}"
        if name is not None:
            self._group[index] = self._groups.setdefault(name, len(self._groups))
        sequence = _whole(said.sequence)
        if sequence is not None:
            self._sequence[index] = sequence
        elements, size = _whole(said.elements), _BYTES.get(said.dtype or "")
        if elements is not None and size is not None and not self._integer["bytes"][index]:
            self._integer["bytes"][index] = elements * size

    def trace(self, source: TraceJson) -> Trace:
        start, duration = np.frombuffer(self._start), np.frombuffer(self._duration)
        unit_ns = 1.0 if np.median(start) > NANOSECONDS else 1e3
        base = float(start.min())
        event: dict[str, NDArray[Any]] = {
            name: np.frombuffer(column, f"<{column.typecode}")
            for name, column in self._integer.items()
        }
        event["start"] = np.rint((start - base) * unit_ns).astype(np.int64)
        event["end"] = event["start"] + np.rint(duration * unit_ns).astype(np.int64)
        return Trace(
            path=source.path,
            names=list(self._names),
            threads=[(str(process), str(thread)) for process, thread in self._threads],
            groups=list(self._groups),
            event=event,
            flops=self._flops.all(event["thread"], event["start"]),
            group=self._group,
            sequence=self._sequence,
            base_us=base,
            unit_ns=unit_ns,
            metadata=source.metadata,
            damage=self._damage(source),
        )

    def _damage(self, source: TraceJson) -> list[str]:
        name, found = source.path.name, []
        if source.cut_off:
            found.append(f"{name} is not whole ({source.cut_off}); what is there was used")
        if source.damaged or self.left_out:
            found.append(
                f"{source.damaged + self.left_out} events of {name} make no sense "
                "and were left out"
            )
        if self.count > MOST_EVENTS:
            found.append(f"of {name} only the first {MOST_EVENTS:,} events were read")
        return found


_INTEGERS = {
    "name": "i", "type": "b", "thread": "i", "device": "i", "stream": "i", "correlation": "q",
    "linked": "q", "bytes": "q",
}  # fmt: skip
_NOTHING = Arguments()
_LIMIT = 1 << 31  # of what is stored in 32 bits; 64-bit columns hold no larger numbers in traces


def _floats(events: list[Event], name: str) -> list[float]:
    values = [getattr(event, name) for event in events]
    try:
        return [float(value) for value in values]  # as text, too: "12.5"
    except (TypeError, ValueError, OverflowError):
        return [_float(value, 0.0 if name == "dur" else math.nan) for value in values]


def _float(value: Number, absent: float) -> float:
    if value is None:
        return absent
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _integers(values: list[Number]) -> list[int]:
    return [
        value if type(value) is int and -_LIMIT < value < _LIMIT else _integer(value)
        for value in values
    ]


def _integer(value: Number) -> int:
    """Return a number as it may stand for a stream or an id; 0 where there is none."""
    found = _whole(value)
    return found % _LIMIT if found is not None else 0


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    found = _DIGITS.search(value) if isinstance(value, str) else None
    return int(found.group()) if found and len(found.group()) < 20 else None
