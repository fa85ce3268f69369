"""The record of one training process: frames appended to a file that never grows beyond its bound.

Written inside the training process and read by the launcher, hence the standard library alone. A
file is a sequence of frames, each whole or worthless::

    magic "SPR1" | kind, 1 byte | length, uint32 | CRC-32 of kind and payload, uint32 | payload
    (little endian)

Kinds: ``F`` one fact, a JSON object with a ``"fact"`` key that names it; ``S`` a block of step
rows, int64 each,
`STEP_COLUMNS` wide. A reader that meets damage looks for the next magic and counts what it passed
over.

The bound: rows are written singly for the first `ROWS_PER_LEVEL` rows, then one row stands for
the sum of 2 steps, after as many rows again of 4, and so on, so that a million steps take about
170,000 rows (32 MiB).
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence

FORMAT = 1
MAGIC = b"SPR1"
HEADER = struct.Struct("<4scII")
FACT, STEPS = b"F", b"S"
MAX_PAYLOAD = 16 << 20  # a longer length is damage
ROWS_PER_LEVEL = 32_768
NOT_MEASURED = -1

# One row a step. Times are ns of time.perf_counter_ns; the "clock" fact ties it to Unix time.
# Columns after
# "count" are sums over the row's steps, but for "start" (of its first step).
STEP_COLUMNS = (
    "start",
    "count",  # steps in this row
    "wall",
    "input_wait",  # training thread inside __next__ of a training loader
    "input_start",  # inside iter(loader): workers are started here
    "backward",  # outermost torch.autograd.backward
    "optimizer",  # step, zero_grad, scaler; nested backward left out
    "collective",  # collectives called from Python by the training thread
    "synchronise",  # item/cpu/tolist/numpy on device tensors
    "copy",  # .to/.cuda from host to device: time in the call
    "checkpoint",  # torch.save
    "evaluation",  # loaders and modules in evaluation, between training steps
    "between",  # between epochs: from the end of one loader iteration to the next batch asked for
    "tail",  # from the end of the last optimizer step to the end of the step
    "garbage",  # garbage collector
    "batches",
    "samples",
    "backwards",
    "updates",  # optimizer steps
    "syncs",
    "device_wall",  # the step on the device's own clock; -1: not measured
    "device_input_wait",  # device idle while the host waited for input; -1: not measured
    "flags",  # or-ed: 1 traced, 2 touched by opening or closing a window, 4 first of an epoch
)
TRACED, DISTURBED, EPOCH_START = 1, 2, 4
COLUMN = {name: index for index, name in enumerate(STEP_COLUMNS)}


def frame(kind: bytes, payload: bytes) -> bytes:
    """Wrap a payload so that damage to it can be told."""
    return HEADER.pack(MAGIC, kind, len(payload), zlib.crc32(payload, zlib.crc32(kind))) + payload


def fact_frame(fact: str, content: dict[str, object]) -> bytes:
    """Return a frame of one fact; what JSON cannot say is said by its repr."""
    whole = {"fact": fact, **content}
    text = json.dumps(whole, default=repr, separators=(",", ":"), ensure_ascii=False)
    return frame(FACT, text.encode("utf-8", "replace"))  # a name may hold bytes that are no UTF-8


class Writer:
    """Appends frames to one file; every write is a whole frame in one system call.

    Raises OSError where the file cannot be written; the caller's fence switches recording off.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )

    def fact(self, fact: str, content: dict[str, object]) -> int:
        """Return the bytes written."""
        return os.write(self._descriptor, fact_frame(fact, content))

    def rows(self, values: array[int]) -> None:
        os.write(self._descriptor, frame(STEPS, values.tobytes()))

    def close(self) -> None:
        os.close(self._descriptor)


class Thinner:
    """Sums consecutive steps into one row once the detail has had its share of the file."""

    def __init__(self, rows_per_level: int = ROWS_PER_LEVEL) -> None:
        self._rows_per_level = rows_per_level
        self._stride = 1
        self._left = rows_per_level
        self._sum: list[int] = []

    def add(self, row: list[int]) -> list[int] | None:
        """Take one step; return the row to write, or None while a sum is being made."""
        if self._stride == 1:
            self._count_down()
            return row
        self._sum = _merge(self._sum, row) if self._sum else list(row)
        return self.flush() if self._sum[1] >= self._stride else None

    def flush(self) -> list[int] | None:
        """Return the sum so far, if there is one."""
        if not self._sum:
            return None
        row, self._sum = self._sum, []
        self._count_down()
        return row

    def _count_down(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._stride, self._left = self._stride * 2, self._rows_per_level


_MAYBE = {COLUMN["device_wall"], COLUMN["device_input_wait"]}


def _merge(total: list[int], row: Sequence[int]) -> list[int]:
    merged = [a + b for a, b in zip(total, row, strict=True)]
    merged[0] = total[0]
    merged[-1] = total[-1] | row[-1]
    for index in _MAYBE:
        if total[index] < 0 or row[index] < 0:
            merged[index] = NOT_MEASURED
    return merged


def frames(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield (kind, payload, bytes skipped before it).

    A last (b"", b"", skipped) counts a damaged end.
    """
    position = skipped = 0
    while position < len(data):
        whole = _frame_at(data, position)
        if whole is None:
            following = data.find(MAGIC, position + 1)
            following = len(data) if following < 0 else following
            skipped += following - position
            position = following
            continue
        kind, payload = whole
        yield kind, payload, skipped
        skipped = 0
        position += HEADER.size + len(payload)
    if skipped:
        yield b"", b"", skipped


def _frame_at(data: bytes, position: int) -> tuple[bytes, bytes] | None:
    if len(data) - position < HEADER.size:
        return None
    magic, kind, length, checksum = HEADER.unpack_from(data, position)
    if magic != MAGIC or length > MAX_PAYLOAD:
        return None
    start = position + HEADER.size
    payload = data[start : start + length]
    if len(payload) < length or zlib.crc32(payload, zlib.crc32(kind)) != checksum:
        return None
    return kind, payload
