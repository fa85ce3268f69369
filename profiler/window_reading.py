"""A traced window as numpy columns on one clock, read from a file that may be damaged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from speedprof.profiler.window_file import (
    EVENT_COLUMNS,
    FORMAT,
    MAGIC,
    OPTIONAL_EVENT_COLUMNS,
    PREFIX,
    PROBE_COLUMNS,
    SAMPLE_COLUMNS,
)

if TYPE_CHECKING:
    from pathlib import Path

    from speedprof.profiler.intervals import Times

TABLES = {"event": EVENT_COLUMNS, "probe": PROBE_COLUMNS, "sample": SAMPLE_COLUMNS}
LATEST = 1 << 61  # ns, 73 years, of any clock; sums of two stay within 64 bits
DRIFT = 0.01  # two clocks of one machine that run further apart than this were not read right


class DamagedWindowError(ValueError):
    """A window file that cannot be used; the message says why."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What `window_file` says of a window."""

    format: int
    host: str
    pid: int
    index: int
    first_step: int
    boundaries: list[int]
    clock: list[tuple[int, int]]
    thread: int
    names: list[str]
    types: list[str]
    columns: list[tuple[str, str, int]]
    rank: int = 0
    device: str = "cpu"
    probes: list[str] = []
    stacks: list[list[int]] = []
    training: list[int] = []
    frames: list[tuple[str, int, str, bool]] = []
    groups: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window; all times are ns of the training process's perf_counter."""

    header: Header
    event: dict[str, Times]  # columns of window_file, with "end" instead of "duration"
    probe: dict[str, Times]
    sample: dict[str, Times]

    @property
    def boundaries(self) -> Times:
        return np.asarray(self.header.boundaries, np.int64)

    def named(self, names: set[str]) -> Times:
        """Return the numbers of the event names that are in `names`."""
        return np.array([i for i, name in enumerate(self.header.names) if name in names], np.int64)

    def of_type(self, *types: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell which events are of one of these types."""
        numbers = [i for i, name in enumerate(self.header.types) if name in types]
        return np.isin(self.event["type"], numbers)


def read(path: Path) -> Window:
    """Read a window file; raise DamagedWindowError, or OSError where it cannot be read at all."""
    data = path.read_bytes()
    if len(data) < PREFIX.size:
        raise DamagedWindowError("it is empty or cut off")
    magic, length = PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise DamagedWindowError("it is no window file")
    header = _header(data[PREFIX.size : PREFIX.size + length])
    return window(header, _tables(header, data, PREFIX.size + length))


def window(header: Header, tables: dict[str, dict[str, Times]]) -> Window:
    """Put a window's columns on one clock and check that they fit together.

    Raise DamagedWindowError.
    """
    event = {name: tables["event"][name] for name in EVENT_COLUMNS}
    for name, absent in OPTIONAL_EVENT_COLUMNS.items():
        column = tables["event"].get(name)
        event[name] = np.full(len(event["name"]), absent) if column is None else column
    _check(header, tables)
    event["start"], event["end"] = _on_our_clock(
        header.clock, event["start"], event.pop("duration")
    )
    return Window(header=header, event=event, probe=tables["probe"], sample=tables["sample"])


def _header(text: bytes) -> Header:
    try:
        plain = msgspec.json.decode(text.decode("utf-8", "replace"))
        written = plain.get("format") if isinstance(plain, dict) else None
        if isinstance(written, int) and written > FORMAT:
            raise DamagedWindowError("a newer speedprof wrote it")
        return msgspec.convert(plain, Header, strict=False)
    except msgspec.MsgspecError as error:
        raise DamagedWindowError(f"its header is damaged ({error})") from error


def _tables(header: Header, data: bytes, position: int) -> dict[str, dict[str, Times]]:
    tables: dict[str, dict[str, Times]] = {table: {} for table in TABLES}
    for table, name, length in header.columns:
        end = position + 8 * length
        if length < 0 or end > len(data):
            raise DamagedWindowError("its columns are cut off")
        column = np.frombuffer(data, "<i8", length, position).astype(np.int64)
        tables.setdefault(table, {})[name] = column
        position = end
    for table, names in TABLES.items():
        for name in names:
            tables[table].setdefault(name, np.zeros(0, np.int64))
    return tables


def _check(header: Header, tables: dict[str, dict[str, Times]]) -> None:
    _check_references(header, tables)
    events, probes = tables["event"], tables["probe"]
    columns = [events["start"], events["duration"], probes["start"], probes["end"]]
    listed = [*header.boundaries, header.thread, *(t for pair in header.clock for t in pair)]
    if any(abs(time) > LATEST for time in listed) or any(
        (np.abs(column >> 1) > LATEST >> 1).any() for column in (*columns, tables["sample"]["at"])
    ):
        raise DamagedWindowError("its times are no times")
    if len(header.boundaries) < 2 or any(b <= a for a, b in pairwise(header.boundaries)):
        raise DamagedWindowError("it holds no whole step")


def _check_references(header: Header, tables: dict[str, dict[str, Times]]) -> None:
    for table in TABLES:
        if len({len(column) for column in tables[table].values()}) > 1:
            raise DamagedWindowError(f"its {table} columns differ in length")
    for table, name, listed in (
        ("event", "name", header.names),
        ("event", "type", header.types),
        ("probe", "what", header.probes),
        ("sample", "stack", header.stacks),
    ):
        column = tables[table][name]
        if ((column < 0) | (column >= len(listed))).any():
            raise DamagedWindowError(f"its {table}s name what it does not list")
    group = tables["event"].get("group")
    if group is not None and ((group < -1) | (group >= len(header.groups))).any():
        raise DamagedWindowError("its events name what it does not list")
    if any(not 0 <= frame < len(header.frames) for stack in header.stacks for frame in stack):
        raise DamagedWindowError("its stacks name frames that it does not list")


def _on_our_clock(
    clock: list[tuple[int, int]], start: Times, duration: Times
) -> tuple[Times, Times]:
    """Turn event times into perf_counter ns by the line through the first and last clock pair."""
    if not len(start):
        return start, start
    if not clock:
        raise DamagedWindowError("nothing ties its events to the step boundaries")
    (ours, theirs), (ours_last, theirs_last) = clock[0], clock[-1]
    slope = (ours_last - ours) / (theirs_last - theirs) if theirs_last > theirs else 1.0
    if abs(slope - 1.0) > DRIFT:
        slope = 1.0
    relative = start - theirs
    begin = ours + np.rint(relative * slope).astype(np.int64)
    length = np.rint(np.maximum(duration, 0) * slope).astype(np.int64)
    return begin, begin + length
