"""The facts of a record, as its reader expects them; what a record lacks keeps its default."""

from __future__ import annotations

import msgspec


class Process(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    host: str
    rank: int = 0
    world_size: int = 1
    clock: tuple[int, int] = (0, 0)  # perf_counter ns, Unix ns
    python: str | None = None
    torch: str | None = None
    cuda: str | None = None
    hip: str | None = None
    device: str = "cpu"
    device_name: str | None = None
    threads: int | None = None
    torchvision: str | None = None
    argv: list[str] = []
    flags: dict[str, str] = {}


class RankFact(msgspec.Struct, frozen=True, kw_only=True):
    rank: int
    world_size: int


class Device(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    device_name: str | None = None


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    flags: dict[str, str]


class Gradients(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an optimizer's gradients are zeroed in place; `optimizer` counts from 0."""

    optimizer: int
    kept: bool


class Exchanged(msgspec.Struct, frozen=True, kw_only=True):
    """Backward passes of a DistributedDataParallel; cumulative."""

    backwards: int
    unsynchronised: int


class BatchFact(msgspec.Struct, frozen=True, kw_only=True):
    """What the first batches of a loader were made of; cumulative."""

    number: int
    shapes: list[list[int]]
    dtypes: list[str]
    distinct: int
    looked_at: int
    padding: float | None = None


class LoaderFact(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    where: str | None = None
    dataset: str = "?"
    iterable: bool = False
    length: int | None = None
    batch_size: int | None = None
    num_workers: int = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: int | None = None
    start_method: str | None = None
    explicit: list[str] = []
    library: str | None = None
    picklable: bool | None = None


class LoaderUse(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    role: str = "unused"
    batches: int = 0
    iterations: int = 0
    wait_ns: int = 0
    startup_ns: int = 0
    first_batch_ns: int = 0
    batch_bytes: int | None = None
    repeated_orders: int | None = None


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker spent on batches since its last line; -1: not measured."""

    loader: int
    batches: int
    samples: int = 0
    getitem_ns: int = 0
    getitem_cpu_ns: int = 0
    collate_ns: int = 0
    collate_cpu_ns: int = 0
    queued_ns: int = -1
    read_bytes: int = -1
    disk_bytes: int = -1
    transforms: dict[str, tuple[int, int]] = {}


class SyncFact(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    where: str
    count: int
    ns: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    peak_bytes: int | None = None
    peak_device_bytes: int | None = None
    device_bytes: int | None = None


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class NoWindow(msgspec.Struct, frozen=True, kw_only=True):
    why: str


class Detached(msgspec.Struct, frozen=True, kw_only=True):
    step: int
    why: str


class End(msgspec.Struct, frozen=True, kw_only=True):
    steps: int
    step_definition: str | None = None


class AppliedFact(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    parameters: dict[str, bool | int | float | str] = {}
    effects: int = 0
    notes: list[str] = []
