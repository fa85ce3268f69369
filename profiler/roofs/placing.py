"""A run against its machine's roofs: what it reached of what this machine can do at best.

Pure arithmetic on facts. What the run, or the machine, was not measured for has no place; neither
has a recorded trace, whose machine is not known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speedprof.profiler.roofs.roofs import AllReduce, Level, Roofs, Storage
    from speedprof.profiler.run import Loader, Run

# transforms that say that a loader's samples are pictures; their decoding is not timed by itself
PICTURE_WORDS = ("Image", "Picture", "Resize", "Crop", "Flip", "Jitter")
KINDS = {"matmul": "matrix products", "convolution": "convolutions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One quantity of a run beside its roof, in the same unit."""

    name: str  # for machines: "storage", "decoding", "matmul", "convolution", "copies", ...
    what: str  # for people
    value: float
    roof: float
    unit: str
    roof_of: str  # how the roof was measured

    @property
    def share(self) -> float:
        """Return the part of the roof that was reached; above 1 where the run did better."""
        return self.value / self.roof


def places(run: Run) -> tuple[Place, ...]:
    """Return what can be compared, in the order of a step."""
    roofs = run.roofs
    if roofs is None or run.kind == "trace":
        return ()
    found = [
        _storage(run, roofs),
        _decoding(run, roofs),
        _copies(run, roofs),
        *(_products(run, roofs, kind) for kind in KINDS),
        _operators(run, roofs),
        _all_reduce(run, roofs),
    ]
    return tuple(place for place in found if place is not None and place.roof > 0)


def _steps_per_s(run: Run) -> float | None:
    times = run.step_ms
    return 1e3 / times.mean_ms if times is not None and times.mean_ms > 0 else None


def _storage(run: Run, roofs: Roofs) -> Place | None:
    loader, rate = run.training_loader(), _steps_per_s(run)
    measured = roofs.storage_of(run.cwd) or next(iter(roofs.storage), None)
    if loader is None or loader.disk_bytes is None or rate is None or measured is None:
        return None
    level, how = _fastest(measured)
    if level is None:
        return None
    beside = sum(rank.node == run.ranks[0].node for rank in run.ranks) or 1
    read = loader.disk_bytes * (run.batches_per_step or 1.0) * rate * beside
    return Place(
        name="storage",
        what="read from storage",
        value=read / 1e9,
        roof=level.best,
        unit="GB/s",
        roof_of=f"one large file by {how}, below {measured.mount}",
    )


def _fastest(measured: Storage) -> tuple[Level | None, str]:
    both = [
        (measured.sequential_gb_per_s, "one reader"),
        (measured.parallel_gb_per_s, f"{measured.readers} readers"),
    ]
    known = [(level, how) for level, how in both if level is not None]
    return max(known, key=lambda one: one[0].best, default=(None, ""))


def _decoding(run: Run, roofs: Roofs) -> Place | None:
    loader, measured = run.training_loader(), roofs.decoding
    if loader is None or measured is None or not _of_pictures(loader):
        return None
    if not loader.getitem_cpu_ms or loader.batch_size is None:
        return None
    on_cores = [name for name in measured.images_per_s if not name.endswith("-gpu")]
    name = "pillow" if "pillow" in on_cores else next(iter(on_cores), None)
    if name is None:
        return None
    return Place(
        name="decoding",
        what="pictures decoded and transformed, per core",
        value=loader.batch_size / loader.getitem_cpu_ms * 1e3,
        roof=measured.images_per_s[name].best,
        unit="images/s",
        roof_of=f"decoding alone of {measured.width} × {measured.height} pixels by {name}",
    )


def _of_pictures(loader: Loader) -> bool:
    names = [loader.dataset, *(step.name for step in loader.transforms)]
    return any(word in name for name in names for word in PICTURE_WORDS)


def _copies(run: Run, roofs: Roofs) -> Place | None:
    copied, measured = run.copies, roofs.transfers
    if copied is None or copied.gb_per_s is None or measured is None:
        return None
    pageable = (copied.pageable_ms or 0.0) > (copied.pinned_ms or 0.0)
    level = measured.pageable_gb_per_s if pageable else measured.pinned_gb_per_s
    if level is None:
        return None
    memory = "pageable" if pageable else "pinned"
    return Place(
        name="copies",
        what=f"copies to the GPU from {memory} memory",
        value=copied.gb_per_s,
        roof=level.best,
        unit="GB/s",
        roof_of=f"one copy of {measured.bytes >> 20} MiB from {memory} memory",
    )


def _products(run: Run, roofs: Roofs, kind: str) -> Place | None:
    counted = run.compute.arithmetic if run.compute is not None else None
    processor = roofs.of_device(run.device)
    if counted is None or processor is None or kind not in counted.kinds:
        return None
    levels = processor.matmul_tflops if kind == "matmul" else processor.convolution_tflops
    roof = mixed(counted.precisions, levels)
    if roof is None or not counted.kinds[kind].flops:
        return None
    return Place(
        name=kind,
        what=f"{KINDS[kind]} while they run",
        value=counted.kinds[kind].tflops_per_s,
        roof=roof,
        unit="TFLOP/s",
        roof_of=f"the best of several sizes in {' and '.join(counted.precisions)}",
    )


def mixed(precisions: Mapping[str, float], levels: Mapping[str, Level]) -> float | None:
    """Return the roof of work in several types, None where one of them has none.

    All FLOPs over the time that they take at the roof of their own type.
    """
    used = {name: flops for name, flops in precisions.items() if flops > 0}
    if not used or any(name not in levels for name in used):
        return None
    return sum(used.values()) / sum(flops / levels[name].best for name, flops in used.items())


def _operators(run: Run, roofs: Roofs) -> Place | None:
    rate, processor = _steps_per_s(run), roofs.of_device(run.device)
    operators = run.compute.operators_per_step if run.compute is not None else None
    level = processor.operators_per_s if processor is not None else None
    if rate is None or operators is None or level is None:
        return None
    return Place(
        name="operators",
        what="operators started",
        value=operators * rate,
        roof=level.best,
        unit="a second",
        roof_of="additions of one element, one after the other, from Python",
    )


def _all_reduce(run: Run, roofs: Roofs) -> Place | None:
    spent = run.communication
    alike = [one for one in roofs.all_reduce if one.ranks == run.world_size and one.sizes]
    if spent is None or not spent.bytes or not alike:
        return None
    ms = spent.total_ms if spent.transfer_ms is None else spent.transfer_ms
    if ms <= 0:
        return None
    size = spent.bytes / max(spent.collectives or 1.0, 1.0)
    measured = next((one for one in alike if _is_of(one, run.device)), alike[0])
    nearest = min(measured.sizes, key=lambda one: abs(math.log(one.bytes / max(size, 1.0))))
    return Place(
        name="all-reduce",
        what="gradients exchanged while they are",
        value=spent.bytes / ms / 1e6,
        roof=nearest.gb_per_s.best,
        unit="GB/s",
        roof_of=f"all-reduce of {nearest.bytes >> 10} KiB by {measured.backend}",
    )


def _is_of(measured: AllReduce, device: str) -> bool:
    return (measured.backend == "gloo") == (device == "cpu")
