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
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from speedprof.profiler.trace_flops import COUNTED, TraceFlops
from speedprof.profiler.trace_json import Arguments, TraceJson, UnreadableTraceError
from speedprof.profiler.trace_times import LONGEST, times
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
        used = self.event["device"][self.on_device()]
        number = int(used[0]) if len(used) else -1
        return next((name for at, name in named if at == number), named[0][1] if named else None)

    def on_device(self) -> NDArray[np.bool_]:
        """Tell which events are a device's own: kernels, copies, fills."""
        return np.isin(self.event["type"], list(ON_DEVICE))

    def of_type(self, *kinds: str) -> NDArray[np.bool_]:
        """Tell which events are of one of these TYPES."""
        return np.isin(self.event["type"], [TYPES.index(kind) for kind in kinds])

    def named(self, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
        """Tell which of the host's events have such a name; each name is looked at once."""
        matching = np.array([bool(pattern.match(name)) for name in self.names], np.bool_)
        found: NDArray[np.bool_] = matching[self.event["name"]] & ~self.on_device()
        return found

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
        self._counted: list[int] = []  # events of the current block that may have FLOPs
        self._group: dict[int, int] = {}
        self._sequence: dict[int, int] = {}

    def add(self, block: list[Event]) -> None:
        known = CATEGORIES
        events = [event for event in block if event.ph == "X" and event.cat in known]
        start, duration = _floats(events, "ts"), _floats(events, "dur")
        real = np.isfinite(start) & (duration >= 0) & (duration < LONGEST)
        if not real.all():
            self.left_out += int((~real).sum())
            events = [events[index] for index in np.flatnonzero(real).tolist()]
            start, duration = start[real], duration[real]
        self._start.frombytes(start.tobytes())
        self._duration.frombytes(duration.tobytes())
        self._identify(events)
        self._describe(events)
        self.count += len(events)

    def _identify(self, events: list[Event]) -> None:
        """Number what names, kinds and threads there are, without a step of Python an event."""
        names = [event.name or "" for event in events]
        for name in dict.fromkeys(names):
            self._names.setdefault(name, len(self._names))
        threads = list(map(_THREAD_OF, events))
        for thread in dict.fromkeys(threads):
            self._threads.setdefault(thread, len(self._threads))
        column = self._integer
        column["name"].extend(map(self._names.__getitem__, names))
        column["type"].extend([CATEGORIES[event.cat or ""] for event in events])
        column["thread"].extend(map(self._threads.__getitem__, threads))
        self._counted = [at for at, name in enumerate(names) if name in COUNTED]

    def _describe(self, events: list[Event]) -> None:
        said = [event.args or _NOTHING for event in events]
        for name in ("device", "stream", "correlation", "bytes"):
            self._integer[name].extend(_integers([getattr(a, name) for a in said], name))
        linked = [a.external if a.external else a.external_1_8 for a in said]
        self._integer["linked"].extend(_integers(linked, "linked"))
        for at in self._counted:
            arguments = said[at]
            dims = bytes(arguments.dims or arguments.dims_1_8)
            concrete = bytes(arguments.concrete)
            self._flops.add(self.count + at, events[at].name or "", dims, concrete)
        for at, arguments in enumerate(said, self.count):
            if arguments.group is not None or arguments.sequence is not None:
                self._place(at, arguments)

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
        placed = times(np.frombuffer(self._start), np.frombuffer(self._duration))
        self.left_out += placed.strays
        event: dict[str, NDArray[Any]] = {
            name: np.frombuffer(column, f"<{column.typecode}")
            for name, column in self._integer.items()
        }
        event["start"], event["end"] = placed.start, placed.end
        return Trace(
            path=source.path,
            names=list(self._names),
            threads=[(str(process), str(thread)) for process, thread in self._threads],
            groups=list(self._groups),
            event=event,
            flops=self._flops.all(event["thread"], event["start"]),
            group=self._group,
            sequence=self._sequence,
            base_us=placed.base,
            unit_ns=placed.unit_ns,
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
_THREAD_OF = attrgetter("pid", "tid")
_LIMITS = {"i": 1 << 31, "q": 1 << 52}  # sums of many of them stay within 64 bits


def _floats(events: list[Event], name: str) -> NDArray[np.float64]:
    values = [getattr(event, name) for event in events]
    try:
        return np.array(array("d", values))
    except (TypeError, OverflowError):  # as text, too: "12.5"
        absent = 0.0 if name == "dur" else math.nan
        return np.array([_float(value, absent) for value in values])


def _float(value: Number, absent: float) -> float:
    if value is None:
        return absent
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _integers(values: list[Any], name: str) -> array[int]:
    """Return what may stand for streams or ids; 0 where there is none."""
    code = _INTEGERS[name]
    limit = _LIMITS[code]
    try:
        column: array[int] = array(code, values)  # TypeError where one is no whole number
    except (TypeError, OverflowError):
        return array(code, [_integer(value, limit) for value in values])
    if column and (min(column) <= -limit or max(column) >= limit):
        return array(code, [_integer(value, limit) for value in values])
    return column


def _integer(value: Number, limit: int) -> int:
    found = _whole(value) or 0
    return found if abs(found) < limit else found % limit


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    found = _DIGITS.search(value) if isinstance(value, str) else None
    return int(found.group()) if found and len(found.group()) < 20 else None
