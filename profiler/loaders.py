"""The data loaders of a run: how they were built, and what a batch costs where it is made."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from speedprof.profiler.reading import converted, json_lines
from speedprof.profiler.record_facts import LoaderFact, LoaderUse, Telemetry
from speedprof.profiler.run import Loader, Transform

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from speedprof.profiler.reading import Record

MOST_TRANSFORMS = 50


class Costs:
    """What batches of one loader cost, summed over the processes that made them; ns and bytes."""

    def __init__(self) -> None:
        self._sums: dict[str, int] = defaultdict(int)
        self._known: dict[str, int] = defaultdict(int)  # batches for which it was measured
        self._transforms: dict[str, tuple[int, int]] = {}

    def add(self, line: Telemetry) -> None:
        if line.batches <= 0:
            return
        for name in (
            "getitem_ns", "getitem_cpu_ns", "collate_ns", "collate_cpu_ns",
            "queued_ns", "read_bytes", "disk_bytes",
        ):  # fmt: skip
            value = getattr(line, name)
            if value >= 0:
                self._sums[name] += value
                self._known[name] += line.batches
        for name, (spent, calls) in line.transforms.items():
            before = self._transforms.get(name, (0, 0))
            self._transforms[name] = (before[0] + spent, before[1] + calls)

    def per_batch(self, name: str) -> float | None:
        """Return the mean over the batches for which it was measured, None where none was."""
        return self._sums[name] / self._known[name] if self._known[name] else None

    def ms(self, name: str) -> float | None:
        mean = self.per_batch(name)
        return None if mean is None else mean / 1e6

    def storage_wait_ms(self) -> float | None:
        """Return wall time that was neither on a core nor waiting for one."""
        wall, cpu = self.ms("getitem_ns"), self.ms("getitem_cpu_ns")
        if wall is None or cpu is None:
            return None
        wall += self.ms("collate_ns") or 0.0
        cpu += self.ms("collate_cpu_ns") or 0.0
        return max(0.0, wall - cpu - (self.ms("queued_ns") or 0.0))

    def transforms(self) -> list[Transform]:
        found = [
            Transform(name=name, ms_per_sample=spent / calls / 1e6, calls=calls)
            for name, (spent, calls) in self._transforms.items()
            if calls > 0
        ]
        found.sort(key=lambda transform: -transform.ms_per_sample * transform.calls)
        return found[:MOST_TRANSFORMS]


def costs(paths: Iterable[Path]) -> tuple[dict[int, Costs], int]:
    """Read workers' telemetry; return costs by loader number, and how many lines were lost."""
    found: dict[int, Costs] = {}
    damaged = 0
    for path in paths:
        lines, lost = json_lines(path)
        damaged += lost
        for plain in lines:
            line = converted(plain, Telemetry)
            if line is None:
                damaged += 1
            else:
                found.setdefault(line.loader, Costs()).add(line)
    return found, damaged


def loaders(record: Record, spent: dict[int, Costs], steps: int) -> list[Loader]:
    """Return the loaders of one process, with what their batches cost anywhere in the run."""
    built = {fact.number: fact for fact in record.all("loader", LoaderFact)}
    used = {fact.number: fact for fact in record.all("loader_use", LoaderUse)}
    return [
        _loader(fact, used.get(number), spent.get(number, Costs()), steps)
        for number, fact in sorted(built.items())
    ]


def _loader(fact: LoaderFact, use: LoaderUse | None, spent: Costs, steps: int) -> Loader:
    use = use or LoaderUse(number=fact.number)
    each = use.iterations or None
    return Loader(
        **msgspec.structs.asdict(fact),
        role=use.role if use.role in ("training", "evaluation") else "unused",
        batches=use.batches,
        iterations=use.iterations,
        repeated_orders=use.repeated_orders,
        wait_ms=use.wait_ns / steps / 1e6 if steps and use.batches else None,
        startup_ms=use.startup_ns / each / 1e6 if each else None,
        first_batch_ms=use.first_batch_ns / each / 1e6 if each else None,
        batch_bytes=use.batch_bytes,
        getitem_ms=spent.ms("getitem_ns"),
        getitem_cpu_ms=spent.ms("getitem_cpu_ns"),
        collate_ms=spent.ms("collate_ns"),
        collate_cpu_ms=spent.ms("collate_cpu_ns"),
        queued_ms=spent.ms("queued_ns"),
        storage_wait_ms=spent.storage_wait_ms(),
        read_bytes=spent.per_batch("read_bytes"),
        disk_bytes=spent.per_batch("disk_bytes"),
        transforms=spent.transforms(),
    )
