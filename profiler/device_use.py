"""How much of the time the device was busy, and with what: unions of its intervals.

Unlike the phases these overlap: communication beside compute counts for both, and `overlap` says
how much that is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from speedprof.profiler.device_activity import TO_DEVICE, matching
from speedprof.profiler.intervals import union

if TYPE_CHECKING:
    from speedprof.profiler.device_activity import DeviceActivity
    from speedprof.profiler.intervals import Spans, Times

DIRECTIONS = {
    "to_device": TO_DEVICE,
    "to_host": re.compile(r"DtoH|DeviceToHost|device to host", re.I),
    "on_device": re.compile(r"DtoD|DeviceToDevice|device to device|PtoP|peer", re.I),
}


class DeviceUse(msgspec.Struct, frozen=True, kw_only=True):
    """ns of one stretch of time; see `run.GpuUse` for the meaning of each."""

    wall: int
    busy: int
    compute: int
    communication: int
    overlap: int
    copies: int
    exposed_copies: int
    to_device: int
    to_host: int
    on_device: int
    memset: int
    loader: int
    loader_idle: int
    runtime_idle: int = 0

    @property
    def idle(self) -> int:
        return self.wall - self.busy

    @property
    def exposed_communication(self) -> int:
        return self.communication - self.overlap


def device_use(
    device: DeviceActivity, names: list[str], loader: Spans, boundaries: Times, *, calls: Spans
) -> list[DeviceUse]:
    """Return the device's use between each boundary and the next (ns, any common clock).

    `calls`: where any thread is in a call of the device's runtime or driver.
    """
    compute = device.spans(device.kernel)
    communication = device.spans(device.collective)
    kernels = compute | communication
    directed = {
        name: device.spans(device.copy & matching(names, pattern)[device.name])
        for name, pattern in DIRECTIONS.items()
    }
    copies = device.spans(device.copy)
    memset = device.spans(device.memory & ~device.copy)
    busy = union((kernels, copies, memset))
    parts = {
        "wall": np.diff(boundaries),
        "busy": busy.between(boundaries),
        "compute": compute.between(boundaries),
        "communication": communication.between(boundaries),
        "overlap": (compute & communication).between(boundaries),
        "copies": copies.between(boundaries),
        "exposed_copies": (copies - kernels).between(boundaries),
        **{name: part.between(boundaries) for name, part in directed.items()},
        "memset": memset.between(boundaries),
        "loader": loader.between(boundaries),
        "loader_idle": (loader - busy).between(boundaries),
        "runtime_idle": (calls - busy).between(boundaries),
    }
    columns = {name: part.tolist() for name, part in parts.items()}
    return [
        DeviceUse(**{name: column[step] for name, column in columns.items()})
        for step in range(len(boundaries) - 1)
    ]
