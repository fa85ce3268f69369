"""What a measuring process is told, and what it tells back; plain values for both interpreters.

Runs in the user's interpreter: the standard library alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

# name -> what it measures; in the order in which they are measured
PARTS = {
    "all-reduce": "an all-reduce by size, between processes",
    "storage": "reading files that are not in memory: one large, many small",
    "decode": "decoding JPEG pictures, per core",
    "memory": "copying arrays far larger than the caches",
    "matmul": "matrix products by type, CPU and GPU",
    "convolution": "convolutions by type, CPU and GPU",
    "dispatch": "starting operators (CPU) and kernels (GPU) from Python",
    "device-memory": "copying within the GPU's memory",
    "copies": "copying from the host to the GPU, pinned and pageable",
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One measuring process's task."""

    parts: list[str]
    scratch: str | None  # an empty folder on the storage to be measured
    cores: int  # usable, whole ones
    memory_bytes: int  # that may be used for arrays
    starter: int  # process that must be there as long as this one is
    answers: int  # file descriptor for what it tells, a JSON object a line

    def encoded(self) -> str:
        return json.dumps(asdict(self))


def first_line(error: BaseException) -> str:
    """Return what went wrong, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def decoded(text: str) -> Order:
    return Order(**json.loads(text))


class Absent(Exception):  # noqa: N818 - no error: a roof that this machine does not have
    """Why something has no roof here, one sentence."""
