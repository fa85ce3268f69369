"""What a measuring process told, put together with what was known before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from speedprof import __version__
from speedprof.profiler.roofs.machine import mount_of
from speedprof.profiler.roofs.roofs import FORMAT, Roofs

if TYPE_CHECKING:
    from pathlib import Path

    from speedprof.profiler.roofs.machine import Machine

Plain = dict[str, Any]
# part -> the fields of `Roofs`, and within them, that it measures
_FIELDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "decode": (("decoding",),),
    "memory": (("memory",),),
    "matmul": (("processor", "matmul_tflops"), ("gpu", "matmul_tflops")),
    "convolution": (("processor", "convolution_tflops"), ("gpu", "convolution_tflops")),
    "dispatch": (("processor", "operators_per_s"), ("gpu", "operators_per_s")),
    "device-memory": (("gpu", "memory_gb_per_s"),),
    "copies": (("transfers",),),
}


class Collection:
    """Roofs in the making."""

    def __init__(self, machine: Machine, known: Roofs | None, *, storage: Path) -> None:
        self._known = known
        self._storage = {"folder": str(storage.absolute()), "mount": mount_of(str(storage))}
        self._cpu = machine.cpu or "CPU"
        self._plain: Plain = {
            "format": FORMAT,
            "machine": machine.id,
            "node": machine.node,
            "cpu": machine.cpu,
            "cores": machine.cores,
            "memory_bytes": machine.memory_bytes,
            "gpus": [name for name, _ in machine.gpus],
            "present_cores": len(machine.cpus),
            "version": __version__,
        }

    def versions(self, told: Plain) -> None:
        """Take over what is known if it was measured by the same torch."""
        known = self._known
        if known is not None and known.torch == told.get("torch"):
            self._plain = {**msgspec.to_builtins(known), **self._plain}
        self._plain |= told

    def part(
        self, name: str, found: Plain, absent: dict[str, str], *, other_cores: float | None = None
    ) -> None:
        """Take a part's values in the place of those that were there."""
        self._forget(name)
        self._plain.setdefault("measured_at", {})[name] = round(time.time(), 3)
        if other_cores is not None:
            self._plain.setdefault("other_cores", {})[name] = round(other_cores, 2)
        self._plain["absent"] |= absent
        for field, value in found.items():
            if field == "storage":
                self._among(field, {**value, **self._storage}, ("mount",))
            elif field == "all_reduce":
                self._among(field, value, ("backend", "ranks", "nodes"))
            elif field in ("processor", "gpu"):
                place = self._plain.get(field) or {"name": self._cpu}
                self._plain[field] = {**place, **value}
            else:
                self._plain[field] = value

    def roofs(self) -> Roofs:
        """Return what there is by now."""
        return msgspec.convert(self._plain, Roofs)

    def _forget(self, part: str) -> None:
        kept = self._plain.get("absent", {})
        self._plain["absent"] = {
            what: why for what, why in kept.items() if what.partition(":")[0] != part
        }
        for field, *inside in _FIELDS.get(part, ()):
            if not inside:
                self._plain.pop(field, None)
            elif self._plain.get(field):
                self._plain[field].pop(inside[0], None)

    def _among(self, field: str, value: Plain, same: tuple[str, ...]) -> None:
        """Put a value into a list, in the place of the one that it replaces."""
        others = [
            one
            for one in self._plain.get(field, [])
            if any(one.get(key) != value.get(key) for key in same)
        ]
        self._plain[field] = [*others, value]
