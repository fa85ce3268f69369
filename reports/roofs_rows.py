"""A machine's roofs in groups of one unit each: the same for terminal, picture and page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from speedprof.reports import wording

if TYPE_CHECKING:
    from speedprof.profiler.roofs.roofs import AllReduce, Level, Processor, Roofs, Storage

BUSY = 0.25  # cores; less is what a system does for itself
LITTLE_COLD = 0.9  # of the pages
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")  # as they are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rates that may be compared with each other."""

    title: str
    unit: str
    rows: tuple[tuple[str, Level], ...]


def groups(roofs: Roofs) -> list[Group]:
    """Return what was measured, storage first, in the order in which data travels."""
    found = [
        *(group for one in roofs.storage for group in _storage(one)),
        _decoding(roofs),
        _memory(roofs),
        _transfers(roofs),
        *_processor(roofs.processor, "CPU"),
        *_processor(roofs.gpu, "GPU"),
        *map(_all_reduce, roofs.all_reduce),
    ]
    return [group for group in found if group is not None and group.rows]


def machine_line(roofs: Roofs) -> str:
    """Say which machine this is: "lab-3 · an x86 CPU, 2 cores, 16 GB · 1 × NVIDIA H100"."""
    cores = f"{roofs.cores:g} {'core' if roofs.cores == 1 else 'cores'}"
    memory = wording.quantity(roofs.memory_bytes, "B")
    gpus = [f"{roofs.gpus.count(name)} × {name}" for name in sorted(set(roofs.gpus))]
    return " · ".join([roofs.node, f"{roofs.cpu or 'CPU'}, {cores}, {memory}", *gpus])


def measured_line(roofs: Roofs) -> str:
    """Say when and with what this was measured."""
    days = sorted({_day(at) for at in roofs.measured_at.values()})
    when = f"between {days[0]} and {days[-1]}" if len(days) > 1 else "".join(days)
    return f"measured {when} with torch {roofs.torch}, Python {roofs.python}"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def remarks(roofs: Roofs) -> list[str]:
    """Return what must be known to believe these figures."""
    said = [
        f"part of the files below {one.mount} stayed in memory ({wording.percent(1 - one.cold)} "
        "of the pages), so this is not the storage's rate alone"
        for one in roofs.storage
        if one.cold is not None and one.cold < LITTLE_COLD
    ]
    busiest = max(roofs.other_cores, key=lambda part: roofs.other_cores[part], default=None)
    if busiest is not None and roofs.other_cores[busiest] >= BUSY:
        said.append(
            f"other programs used up to {roofs.other_cores[busiest]:.1f} of "
            f"{roofs.present_cores or '?'} cores meanwhile (at {busiest}); "
            "on an idle machine `speedprof roofs --again` may see more"
        )
    return said


def missing(roofs: Roofs) -> list[tuple[str, str]]:
    """Return what has no roof, and why; the same reason once."""
    by_reason: dict[str, list[str]] = {}
    for what, why in roofs.absent.items():
        by_reason.setdefault(why, []).append(what.replace(": cuda", " on a GPU"))
    return [(", ".join(whats), why) for why, whats in by_reason.items()]


def size(count: int) -> str:
    """Say a power of two: "64 KiB"."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >> shift:
            return f"{count / (1 << shift):g} {unit}"
    return f"{count} B"


def _rows(*named: tuple[str, Level | None]) -> tuple[tuple[str, Level], ...]:
    return tuple((name, level) for name, level in named if level is not None)


def _storage(one: Storage) -> list[Group]:
    several = f"{one.readers} readers"
    where = f"below {one.mount}"
    return [
        Group(
            title=f"Reading a file of {size(one.large_bytes)} {where}",
            unit="GB/s",
            rows=_rows(("one reader", one.sequential_gb_per_s), (several, one.parallel_gb_per_s)),
        ),
        Group(
            title=f"Reading files of {wording.quantity(one.small_bytes, 'B')} {where}",
            unit="files/s",
            rows=_rows(("one reader", one.small_files_per_s), (several, one.parallel_files_per_s)),
        ),
    ]


def _decoding(roofs: Roofs) -> Group | None:
    one = roofs.decoding
    if one is None:
        return None
    return Group(
        title=f"Decoding JPEG files, {one.width} × {one.height} pixels, per core",
        unit="images/s",
        rows=tuple(one.images_per_s.items()),
    )


def _memory(roofs: Roofs) -> Group | None:
    one = roofs.memory
    if one is None:
        return None
    threads = [(f"{one.threads} threads", one.all_threads_gb_per_s)] if one.threads > 1 else []
    return Group(
        title=f"Copying arrays of {size(one.bytes)} in memory",
        unit="GB/s",
        rows=_rows(("one thread", one.one_thread_gb_per_s), *threads),
    )


def _transfers(roofs: Roofs) -> Group | None:
    one = roofs.transfers
    if one is None:
        return None
    return Group(
        title=f"Copying {size(one.bytes)} to the GPU",
        unit="GB/s",
        rows=_rows(("pinned", one.pinned_gb_per_s), ("pageable", one.pageable_gb_per_s)),
    )


def _processor(one: Processor | None, name: str) -> list[Group]:
    if one is None:
        return []
    started = "Launching kernels" if name == "GPU" else "Starting operators"
    return [
        _arithmetic(f"Matrix products, {name}", one.matmul_tflops),
        _arithmetic(f"Convolutions, {name}", one.convolution_tflops),
        Group(
            title="The GPU's memory",
            unit="GB/s",
            rows=_rows(("read and written", one.memory_gb_per_s)),
        ),
        Group(
            title=f"{started} from Python",
            unit="a second",
            rows=_rows(("one element", one.operators_per_s)),
        ),
    ]


def _arithmetic(title: str, levels: dict[str, Level]) -> Group:
    """Return rates by type, in GFLOP/s where none of them comes to a TFLOP/s."""
    rows = _rows(*((name, levels.get(name)) for name in PRECISIONS))
    if any(level.best >= 1 for _, level in rows):
        return Group(title=title, unit="TFLOP/s", rows=rows)
    scaled = tuple((name, _times(level, 1e3)) for name, level in rows)
    return Group(title=title, unit="GFLOP/s", rows=scaled)


def _times(level: Level, factor: float) -> Level:
    return msgspec.structs.replace(
        level,
        best=factor * level.best,
        median=factor * level.median,
        worst=factor * level.worst,
    )


def _all_reduce(one: AllReduce) -> Group:
    nodes = f" on {one.nodes} nodes" if one.nodes > 1 else ""
    return Group(
        title=f"All-reduce by {one.backend} between {one.ranks} processes{nodes}",
        unit="GB/s",
        rows=tuple((size(exchanged.bytes), exchanged.gb_per_s) for exchanged in one.sizes),
    )
