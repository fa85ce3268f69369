"""The events of a Kineto or Chrome trace, a block at a time: memory does not grow with the file.

A trace is a JSON object with an array ``traceEvents``, or that array alone. It is cut into blocks
at places where one event ends and the next begins, and a block is decoded whole. That a cut was
right shows by the block's being an array: a cut inside an event or a string never is. A block
that is none (NaN, a stray backslash, a number as text, a file cut off) is taken event by event,
and what is no event is counted.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from speedprof.profiler.errors import SpeedprofError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 1 << 20  # bytes read at once: its events stay in the processor's caches
MOST_UNCUT = 64 << 20  # bytes without an event's end: no trace has such an event
GZIP = b"\x1f\x8b"
MOST_DAMAGED = 100_000  # entries that are no events: with more of them the file is something else
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_LAST = re.compile(rb"\}\s*\]")
_BEGINS = re.compile(r'\{\s*"(?:ph|name|cat|args|pid|tid|ts|dur|id|s|bp)"')
_NEAR = 1 << 16  # bytes from a block's end in which events end, in all but strange traces
_TRIES = 3  # places where a block may be cut, before it is taken event by event
_GAP = re.compile(r"[\s,]*")

Number = int | float | str | None
Stream = gzip.GzipFile | io.BufferedReader


class Arguments(msgspec.Struct, gc=False):
    """What an event says beside its times; names as Kineto's versions spell them."""

    stream: Number = 0
    device: Number = 0
    correlation: Number = 0
    bytes: Number = 0
    external: Number = msgspec.field(default=0, name="External id")
    external_1_8: Number = msgspec.field(default=0, name="external id")
    dims: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input Dims")
    dims_1_8: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input dims")
    concrete: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Concrete Inputs")
    collective: str | None = msgspec.field(default=None, name="Collective name")
    group: str | None = msgspec.field(default=None, name="Process Group Name")
    members: str | None = msgspec.field(default=None, name="Process Group Ranks")
    sequence: Number = msgspec.field(default=None, name="Seq")
    elements: Number = msgspec.field(default=None, name="In msg nelems")
    dtype: str | None = None


class Event(msgspec.Struct, gc=False):
    """One entry of traceEvents; times in the unit of the file."""

    ph: str = ""
    cat: str | None = None
    name: str | None = ""
    pid: Number = None
    tid: Number = None
    ts: Number = None
    dur: Number = None
    args: Arguments | None = None


_DECODER = msgspec.json.Decoder(list[Event])
_JSON = json.JSONDecoder()


class UnreadableTraceError(SpeedprofError):
    """A file that is no trace; the message says why, in one sentence."""


class TraceJson:
    """One trace file, read from front to end, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}  # the object's other members, whole after reading
        self.damaged = 0  # entries of traceEvents that are no events
        self.cut_off: str | None = None  # why the file ends before it should

    def blocks(self) -> Iterator[list[Event]]:
        """Yield the events in the file's order.

        Raise UnreadableTraceError where the file is no trace.
        """
        try:
            with self.path.open("rb") as file:
                packed = file.read(2) == GZIP
                file.seek(0)
                stream: Stream = gzip.GzipFile(fileobj=file) if packed else file
                yield from self._events(stream)
        except OSError as error:
            raise UnreadableTraceError(
                f"cannot read {self.path} ({error.strerror or error}); name a trace that "
                "torch.profiler exported"
            ) from error

    def _read(self, stream: Stream, waiting: int = 0) -> bytes:
        """Return the next block, or what could be unpacked of it before the data is damaged.

        As much as is `waiting` for an event's end is read at least: a long one is soon whole.
        """
        wanted = max(BLOCK, waiting)
        parts: list[bytes] = []
        held = 0
        try:
            while held < wanted:
                part = stream.read1(wanted - held)
                if not part:
                    break
                parts.append(part)
                held += len(part)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.cut_off = "its gzip data is damaged or cut off"
        return b"".join(parts)

    def _events(self, stream: Stream) -> Iterator[list[Event]]:
        rest = self._head(stream)
        while more := self._read(stream, len(rest)):
            rest += more
            block, rest = self._cut(rest)
            if block:
                yield block
            if self._ended:
                self._tail(rest + self._remaining(stream))
                return
            if self.damaged > MOST_DAMAGED:
                raise UnreadableTraceError(
                    f"{self.path} is no trace: {self.damaged:,} entries of its traceEvents are no "
                    "events; export it again"
                )
            if len(rest) > MOST_UNCUT:
                raise UnreadableTraceError(
                    f"{self.path} is no trace: it has an event of more than "
                    f"{MOST_UNCUT >> 20} MiB; export it again"
                )
        block, rest = self._last(rest)
        yield block
        self._tail(rest)

    def _head(self, stream: Stream) -> bytes:
        """Read up to where the events begin; return what was read beyond."""
        self._ended = False
        self._object = True
        start = b""
        while True:
            start += (more := self._read(stream, len(start)))
            if start[:1].isspace() or start.startswith(b"\xef\xbb\xbf"):
                start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
            if start.startswith(b"["):
                self._object = False
                return start[1:]
            for found in _EVENTS.finditer(start):
                head = _plain(start[: found.end() - 1] + b"null}")
                if head is not None:
                    self.metadata.update(head)
                    return start[found.end() :]
            if not more or len(start) > MOST_UNCUT or (start and not start.startswith(b"{")):
                raise self._no_trace(start)

    def _no_trace(self, start: bytes) -> UnreadableTraceError:
        why = "it is not JSON"
        if not start or start.startswith(b"{"):
            why = self.cut_off or ("it has no traceEvents" if start else "it is empty")
        return UnreadableTraceError(
            f"{self.path} is no trace: {why}; torch.profiler's export_chrome_trace makes one"
        )

    def _cut(self, text: bytes) -> tuple[list[Event], bytes]:
        """Decode up to the last place where an event ends; return what is left."""
        near = max(0, len(text) - _NEAR)
        places = [found.start() + 1 for found in _BETWEEN.finditer(text, near)]
        for place in places[-1 : -1 - _TRIES : -1]:
            block = _decoded(text[:place])
            if block is not None:
                return block, text[place:].lstrip(b" \t\r\n").removeprefix(b",")
        return self._one_by_one(text, whole=False)

    def _last(self, text: bytes) -> tuple[list[Event], bytes]:
        """Decode what is left at the file's end, up to the array's end."""
        near = max(0, len(text) - _NEAR)
        for found in list(_LAST.finditer(text, near))[-1 : -1 - _TRIES : -1]:
            block = _decoded(text[: found.start() + 1])
            if block is not None:
                return block, text[found.end() :]
        return self._one_by_one(text, whole=True)

    def _one_by_one(self, text: bytes, *, whole: bool) -> tuple[list[Event], bytes]:
        """Take events singly and count what is none; `whole`: nothing comes after this text."""
        characters = text.decode("utf-8", "surrogateescape")
        events: list[Event] = []
        at, end = 0, len(characters)
        while True:
            gap = _GAP.match(characters, at)
            at = gap.end() if gap else at
            if at >= end:
                break
            if characters[at] == "]":
                self._ended = True
                at += 1
                break
            try:
                plain, at = _JSON.raw_decode(characters, at)
            except (ValueError, RecursionError):
                following = _BEGINS.search(characters, at + 1)
                if following is None:
                    break
                self.damaged += 1
                at = following.start()
                continue
            event = _event(plain)
            if event is None:
                self.damaged += 1
            else:
                events.append(event)
        if whole and not self._ended:
            self.cut_off = self.cut_off or "it ends within its events"
            self.damaged += at < end
            at = end
        return events, characters[at:].encode("utf-8", "surrogateescape")

    def _remaining(self, stream: Stream) -> bytes:
        rest = b""
        while len(rest) < MOST_UNCUT and (more := self._read(stream)):
            rest += more
        return rest

    def _tail(self, text: bytes) -> None:
        """Take what the object says after its events."""
        text = text.strip()
        if self._object and text.startswith(b","):
            self.metadata.update(_plain(b"{" + text[1:]) or {})


def _plain(text: bytes) -> dict[str, Any] | None:
    """Return a JSON object, None where it is none."""
    try:
        plain = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def _decoded(text: bytes) -> list[Event] | None:
    try:
        return _DECODER.decode(b"[" + text + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


_FIELDS = {field.name: field.encode_name for field in msgspec.structs.fields(Arguments)}
_RAW = {"dims", "dims_1_8", "concrete"}
_TEXTS = {"collective", "group", "members", "dtype"}


def _event(plain: object) -> Event | None:
    """Return an event from what may be anything; what is of the wrong type is left out."""
    if not isinstance(plain, dict):
        return None
    said = plain.get("args")
    arguments = _arguments(said) if isinstance(said, dict) else None
    name, category, phase = plain.get("name"), plain.get("cat"), plain.get("ph")
    return Event(
        ph=phase if isinstance(phase, str) else "",
        cat=category if isinstance(category, str) else None,
        name=name if isinstance(name, str) else "",
        args=arguments,
        **{key: _number(plain.get(key)) for key in ("pid", "tid", "ts", "dur")},
    )


def _arguments(said: dict[str, Any]) -> Arguments:
    found: dict[str, Any] = {}
    for field, name in _FIELDS.items():
        value = said.get(name)
        if value is None:
            continue
        if field in _RAW:
            found[field] = msgspec.Raw(json.dumps(value).encode())
        elif field in _TEXTS:
            found[field] = value if isinstance(value, str) else None
        else:
            found[field] = _number(value)
    return Arguments(**found)


def _number(value: object) -> Number:
    return value if isinstance(value, (int, float, str)) else None
