"""Which machine this is, so that its roofs are found again and no other's are taken for them.

The processor, the cores and memory that may be used, and every GPU that the driver shows: what
changes one of them changes what can be done at best. Runs in the launcher: no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass

from speedprof.profiler import node

LENGTH = 16  # hexadecimal digits
MEMORY_STEP = 1 << 28  # bytes; a kernel update moves the last megabytes


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What tells this machine from others."""

    node: str
    cpu: str | None
    cores: float  # usable
    cpus: frozenset[int]  # cores by number
    memory_bytes: int
    gpus: tuple[tuple[str, str], ...]  # name and unique identifier

    @property
    def id(self) -> str:
        memory = round(self.memory_bytes / MEMORY_STEP)
        told = json.dumps([self.cpu, round(self.cores, 2), memory, sorted(self.gpus)])
        return hashlib.sha256(told.encode()).hexdigest()[:LENGTH]


def this_machine() -> Machine:
    import psutil

    total = psutil.virtual_memory().total
    limits = node.limits(total)
    return Machine(
        node=os.uname().nodename,
        cpu=node.processor_name(),
        cores=limits.cores,
        cpus=limits.cpus,
        memory_bytes=limits.memory_bytes or total,
        gpus=_gpus(),
    )


def mount_of(path: str) -> str:
    """Return where the file system that holds a path is mounted."""
    place = os.path.realpath(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return place


def _gpus() -> tuple[tuple[str, str], ...]:
    """Ask NVIDIA's driver for all GPUs, whatever CUDA_VISIBLE_DEVICES says; none without it."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        asked = (pynvml.nvmlDeviceGetName, pynvml.nvmlDeviceGetUUID)
        found = [tuple(_text(question(handle)) for question in asked) for handle in handles]
        return tuple((name, identifier) for name, identifier in found)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _text(answer: str | bytes) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
