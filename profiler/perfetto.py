"""A recorded trace with our tracks in it, so that anyone can check us in ui.perfetto.dev.

The original is copied as it is, a block at a time, and our events are put in front of its first
one; nothing of it is held, decoded or changed. A trace that is cut off is closed after its last
whole event, so that a viewer can open it.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speedprof.profiler.errors import SpeedprofError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

PROCESS = 1_935_962_470  # our process's number in the viewer; no system has one that large
BLOCK = 4 << 20  # bytes copied at once; no event is as long as that
MOST_HEAD = 64 << 20  # bytes before the first event
_GZIP = b"\x1f\x8b"
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_UNINTERESTING = bytes(set(range(256)) - set(b'"[]{}'))
_CLOSED_BY = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One row of the viewer, of pieces that follow each other; times are in the trace's unit."""

    name: str
    pieces: Iterable[tuple[float, float, str]]  # start, end, what


def export(source: Path, destination: Path, tracks: Iterable[Track]) -> None:
    """Write `source` with `tracks` to `destination`, packed where its name ends in .gz.

    Raise SpeedprofError where one is no trace, the other cannot be written, or both are one file.
    """
    part = destination.with_name(f"{destination.name}.part")
    try:
        if destination.exists() and source.samefile(destination):
            raise SpeedprofError(f"{destination} is the trace itself; name another file to write")
        with _reading(source) as read, _writing(part, packed=destination.suffix == ".gz") as write:
            _merge(source, read, write, tracks)
        part.replace(destination)
    except OSError as error:
        raise SpeedprofError(
            f"cannot write {destination} from {source}: {error.strerror or error}"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def _reading(source: Path) -> Iterator[Callable[[], bytes]]:
    with source.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            yield lambda: file.read(BLOCK)
            return
        stream = gzip.GzipFile(fileobj=file)
        yield lambda: _unpacked(stream)


def _unpacked(stream: gzip.GzipFile) -> bytes:
    """Return the next block; what comes before the place where a file is cut off is kept."""
    block = bytearray()
    with suppress(EOFError, zlib.error, gzip.BadGzipFile):
        while len(block) < BLOCK and (more := stream.read1(BLOCK)):
            block += more
    return bytes(block)


@contextmanager
def _writing(part: Path, *, packed: bool) -> Iterator[Callable[[bytes], object]]:
    with part.open("wb") as file:
        if not packed:
            yield file.write
            return
        with gzip.GzipFile(
            filename="", fileobj=file, mode="wb", compresslevel=3, mtime=0
        ) as stream:
            yield stream.write


def _merge(
    source: Path,
    read: Callable[[], bytes],
    write: Callable[[bytes], object],
    tracks: Iterable[Track],
) -> None:
    head, rest, opened = _head(read, source)
    write(head)
    first = True
    for event in _events(tracks):
        write(event if first else b",\n" + event)
        first = False
    while not (rest := rest.lstrip()):
        rest = read()
        if not rest:
            break
    joint = b"" if first or rest.startswith(b"]") else b",\n"
    _copy(joint + rest, read, write, opened=opened, source=source)


def _head(read: Callable[[], bytes], source: Path) -> tuple[bytes, bytes, str]:
    """Return what comes before the first event, what was read beyond, and what is open there."""
    start = b""
    while more := read():
        start += more
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            at = start.index(b"[") + 1
            return start[:at], start[at:], "["
        for found in _EVENTS.finditer(start):
            if _Position().beyond(start[: found.start()]) == _Position(depth=1):
                return start[: found.end()], start[found.end() :], "{["
        if len(start) > MOST_HEAD:
            break
    raise SpeedprofError(
        f"{source} is no trace: it has no list of traceEvents; name one that torch.profiler "
        "exported"
    )


def _events(tracks: Iterable[Track]) -> Iterator[bytes]:
    """Yield our events: a process of our own, above all others, with a thread for each track."""
    yield _named("process_name", 0, name="speedprof")
    yield _named("process_sort_index", 0, sort_index=-1)
    for number, track in enumerate(tracks, start=1):
        yield _named("thread_name", number, name=f"speedprof: {track.name}")
        yield _named("thread_sort_index", number, sort_index=number)
        for start, end, what in track.pieces:
            times = {"ts": start, "dur": end - start, "pid": PROCESS, "tid": number}
            yield json.dumps({"ph": "X", "cat": "speedprof", "name": what, **times}).encode()


def _named(what: str, thread: int, **said: object) -> bytes:
    event = {"ph": "M", "name": what, "pid": PROCESS, "tid": thread, "ts": 0, "args": said}
    return json.dumps(event).encode()


def _copy(
    rest: bytes,
    read: Callable[[], bytes],
    write: Callable[[bytes], object],
    *,
    opened: str,
    source: Path,
) -> None:
    """Copy what follows; the last blocks are held until it is clear whether the trace is whole."""
    begin = before = here = _Position(depth=len(opened))
    held = [rest]
    here = here.beyond(rest)
    while more := read():
        held.append(more)
        here = here.beyond(more)
        if len(held) > 2:
            before = before.beyond(held[0])
            write(held.pop(0))
    last = b"".join(held)
    if here.depth == 0 and not here.in_string:
        write(last)
        return
    cut = _last_whole(last, before, opened, first=before is begin)
    if cut is None:
        raise SpeedprofError(f"{source} is cut off within an event of more than {BLOCK >> 20} MiB")
    end, closing = cut
    write(last[:end] + b"\n" + closing + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Position:
    """Where in a JSON text one is: how many brackets are open, and whether a string is."""

    depth: int = 0
    in_string: bool = False
    escape: bytes = b""  # a backslash whose other half is still to come

    def beyond(self, text: bytes) -> _Position:
        """Return the position after more text. All the work is done by C: 0.3 GB a second."""
        text = self.escape + text
        odd = (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
        shortened = _ESCAPE.sub(b"", text[:-1] if odd else text)
        marks = (b'"' if self.in_string else b"") + shortened.translate(None, _UNINTERESTING)
        in_string = marks.count(b'"') % 2 == 1
        brackets = _STRING.sub(b"", marks.replace(b'""', b"")).partition(b'"')[0]
        opened = brackets.count(b"{") + brackets.count(b"[")
        return _Position(
            depth=self.depth + 2 * opened - len(brackets),
            in_string=in_string,
            escape=b"\\" if odd else b"",
        )


def _last_whole(
    text: bytes, before: _Position, opened: str, *, first: bool
) -> tuple[int, bytes] | None:
    """Return where the last whole event (or the list of them) ends, and what closes the trace.

    `first` says that no event comes before this text, so that the cut may be at its very start.
    """
    prefix = (b'"' if before.in_string else b"") + before.escape
    stack = (opened + "?" * (before.depth - len(opened)))[: before.depth]
    cut = (0, _closing(opened)) if first else None
    for token in _TOKEN.finditer(prefix + text):
        mark = token[0][:1].decode()
        if mark in _CLOSED_BY:
            stack += mark
        elif mark in "]}":
            stack = stack[:-1]
            if opened.startswith(stack):
                cut = (token.end() - len(prefix), _closing(stack))
    return cut


def _closing(stack: str) -> bytes:
    return "".join(_CLOSED_BY[mark] for mark in reversed(stack)).encode()
