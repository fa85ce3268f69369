"""One traced window as columns in a file: written by the training, reduced by the launcher.

The standard library alone, since it runs inside the training. Layout: magic, length of a JSON
header, the header, then the columns that the header lists, int64 each, little endian, one after
another. A file is written under a temporary name and renamed, so that a reader never sees half of
one.

Header keys: ``format``, ``host``, ``pid``, ``rank``, ``device`` ("cpu", "cuda"), ``index`` (of
the window), ``first_step`` (number of its first step, from 0), ``boundaries`` (perf_counter ns of
the steps' boundaries, one more than steps),
``clock`` (pairs [perf_counter ns, event ns], first and last of the window), ``thread`` (native id
of the training thread),
``names`` (event names), ``types`` (event types), ``probes`` (names of what the probes saw),
``stacks`` (lists of frames, innermost first, as indices into ``frames``), ``frames`` ([file,
line, function, is_generator]), ``training`` (stacks that backward passes began from),
``columns`` (list of [table, name, length]).

Tables and their columns:

``event``   name, type, start, duration (event ns), thread (native id, or -1), device (-1: the
CPU), stream,
            correlation, linked (id of the launch or parent), bytes, is_async; and, where they
            were recorded, flops (of an operator, from its shapes), group (index into
            ``groups``, the communicators) and sequence (of the collective in its group)
``probe``   what (index into probes), start, end (perf_counter ns), detail (loader number, or -1)
``sample``  at (perf_counter ns), stack (index into stacks), cpu (ns of CPU time of the training
thread since the
            sample before), queued (ns that it was ready to run but had no core, or -1)
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from array import array

MAGIC = b"SPW1"
FORMAT = 1
PREFIX = struct.Struct("<4sI")
EVENT_COLUMNS = (
    "name",
    "type",
    "start",
    "duration",
    "thread",
    "device",
    "stream",
    "correlation",
    "linked",
    "bytes",
    "is_async",
)
# columns that only some sources of windows know, and what stands where they do not
OPTIONAL_EVENT_COLUMNS = {"flops": 0, "group": -1, "sequence": -1}
PROBE_COLUMNS = ("what", "start", "end", "detail")
SAMPLE_COLUMNS = ("at", "stack", "cpu", "queued")
PROBES = (
    "input_wait",
    "input_start",
    "backward",
    "optimizer",
    "zero_grad",
    "collective",
    "synchronise",
    "copy",
    "checkpoint",
    "evaluation",
    "garbage",
    "between",
)
# event types that readers rely on; others pass through
CPU_OP, ANNOTATION, KERNEL = "cpu_op", "user_annotation", "kernel"
COPY, MEMSET, RUNTIME, DRIVER = "gpu_memcpy", "gpu_memset", "cuda_runtime", "cuda_driver"

Columns = dict[str, dict[str, "array[int]"]]


def write(path: str, header: dict[str, object], tables: Columns) -> None:
    """Write a window whole, or raise OSError."""
    listed = [
        [t, name, len(column)] for t, columns in tables.items() for name, column in columns.items()
    ]
    whole = {**header, "format": FORMAT, "columns": listed}
    encoded = json.dumps(whole, default=repr, ensure_ascii=False).encode("utf-8", "replace")
    try:
        with open(path + ".part", "wb") as file:
            file.write(PREFIX.pack(MAGIC, len(encoded)))
            file.write(encoded)
            for columns in tables.values():
                for column in columns.values():
                    file.write(column.tobytes())
        os.replace(path + ".part", path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path + ".part")  # half a window would only fill a full disk
        raise
