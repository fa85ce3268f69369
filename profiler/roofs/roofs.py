"""What a machine can do at best, as values: made by `speedprof roofs`, read by reports and advice.

A roof is the best that was seen, not a promise: nothing that was measured here did better, and a
training that does as well has nothing left to gain there. `None` means not measured, and `absent`
says why.
"""

from __future__ import annotations

import os
from typing import Annotated

import msgspec

from speedprof.profiler.fact import Fact

FORMAT = 1
Positive = Annotated[float, msgspec.Meta(gt=0)]  # another number in a file is damage


class Level(Fact, frozen=True, kw_only=True):
    """One rate as its repeats saw it; the unit is in the name of the field that holds it."""

    best: Positive  # the roof
    median: Positive
    worst: Positive
    repeats: int


class Storage(Fact, frozen=True, kw_only=True):
    """Reading files of one file system that the page cache does not hold."""

    folder: str  # in which it was measured
    mount: str  # where its file system is mounted
    sequential_gb_per_s: Level | None = None  # one large file, one reader
    parallel_gb_per_s: Level | None = None  # the same file by `readers` threads, a part each
    small_files_per_s: Level | None = None  # open, read, close; one reader
    parallel_files_per_s: Level | None = None  # `readers` threads
    readers: int = 1
    large_bytes: int = 0  # size of the large file
    small_bytes: int = 0  # size of each small file
    small_files: int = 0  # how many there were
    cold: float | None = None  # part of the pages that came from storage; None: cannot be seen


class Decoding(Fact, frozen=True, kw_only=True):
    """JPEG decoding to RGB, one core each; on a GPU the whole device."""

    width: int  # of the pictures, pixels
    height: int
    bytes: int  # of a file, mean
    # "pillow", "torchvision", "dali", and of a GPU "torchvision-gpu", "dali-gpu"
    images_per_s: dict[str, Level] = msgspec.field(default_factory=dict)


class Memory(Fact, frozen=True, kw_only=True):
    """Copying arrays far larger than the caches; bytes read and bytes written are counted."""

    bytes: int  # of one array
    threads: int
    all_threads_gb_per_s: Level | None = None
    one_thread_gb_per_s: Level | None = None


class Processor(Fact, frozen=True, kw_only=True):
    """The CPU with all usable cores, or one GPU; a multiply-add counts as two operations."""

    name: str
    matmul_tflops: dict[str, Level] = msgspec.field(
        default_factory=dict
    )  # by "fp32", "tf32", "bf16", "fp16"; each at the best of several sizes
    convolution_tflops: dict[str, Level] = msgspec.field(default_factory=dict)
    operators_per_s: Level | None = None  # of one element, called from Python; on a GPU: launches
    memory_gb_per_s: Level | None = None  # a GPU's own, read and written


class Transfers(Fact, frozen=True, kw_only=True):
    """Copies from the host to the GPU, each waited for."""

    bytes: int  # of one copy
    pinned_gb_per_s: Level | None = None
    pageable_gb_per_s: Level | None = None


class Exchanged(Fact, frozen=True, kw_only=True):
    """An all-reduce of one size: bytes of the tensor / time, whatever crosses the links for it."""

    bytes: Annotated[int, msgspec.Meta(gt=0)]
    gb_per_s: Level


class AllReduce(Fact, frozen=True, kw_only=True):
    backend: str  # "gloo", "nccl"
    ranks: int
    nodes: int = 1
    sizes: list[Exchanged] = msgspec.field(default_factory=list)  # smallest first


class Roofs(Fact, frozen=True, kw_only=True):
    """All roofs of one machine."""

    format: int = FORMAT
    machine: str  # see machine.py
    node: str  # host name, for people
    cpu: str | None = None
    cores: float  # usable, as affinity and cgroups allow
    memory_bytes: int | None = None
    gpus: list[str] = msgspec.field(default_factory=list)
    measured_at: dict[str, float] = msgspec.field(default_factory=dict)  # part -> Unix seconds
    other_cores: dict[str, float] = msgspec.field(
        default_factory=dict
    )  # part -> cores that other programs used meanwhile
    present_cores: int | None = None  # of the node, that others may use
    version: str = ""  # of speedprof
    python: str | None = None
    torch: str | None = None
    cuda: str | None = None
    storage: list[Storage] = msgspec.field(default_factory=list)  # one for each file system
    decoding: Decoding | None = None
    memory: Memory | None = None
    processor: Processor | None = None  # the CPU
    gpu: Processor | None = None
    transfers: Transfers | None = None
    all_reduce: list[AllReduce] = msgspec.field(default_factory=list)
    absent: dict[str, str] = msgspec.field(default_factory=dict)  # what -> why it has no roof

    def storage_of(self, path: str) -> Storage | None:
        """Return what was measured of the file system that holds this absolute path."""
        holding = [one for one in self.storage if _within(path, one.mount)]
        return max(holding, key=lambda one: len(one.mount), default=None)

    def of_device(self, device: str) -> Processor | None:
        """Return the processor that a run with this `device` computes on."""
        return self.processor if device == "cpu" else self.gpu


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
