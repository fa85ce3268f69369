"""What the GPU did: when the host asked for it, and where the device crosses the steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.intervals import Spans, Times, spans
from speedprof.profiler.window_file import COPY, DRIVER, KERNEL, MEMSET, RUNTIME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.window_reading import Window

BEFORE = np.iinfo(np.int64).min  # launched before the window began
COLLECTIVE_KERNEL = re.compile(
    r"nccl|rccl|(::|deep_?)ep::|oneccl|msccl|nvshmem|all_?reduce|cross_device_reduce|mori::", re.I
)
TO_DEVICE = re.compile(r"HtoD|HostToDevice|host to device", re.I)
_PAGEABLE = re.compile(r"pageable", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceActivity:
    """The device's events, as columns over those events alone."""

    name: Times
    start: Times
    end: Times
    stream: Times
    bytes: Times
    launched: Times  # when the host asked for it; BEFORE where that was before the window
    correlation: Times
    kernel: NDArray[np.bool_]  # computes
    collective: NDArray[np.bool_]
    to_device: NDArray[np.bool_]  # a copy from the host
    pageable: NDArray[np.bool_]  # of them, from pageable memory
    copy: NDArray[np.bool_]  # in any direction
    memory: NDArray[np.bool_]  # copies but those to the device, and memsets

    def __len__(self) -> int:
        return len(self.start)

    def spans(self, chosen: NDArray[np.bool_]) -> Spans:
        return spans(self.start[chosen], self.end[chosen])


def device_activity(window: Window) -> DeviceActivity | None:
    """Return the device's activity, None where the window saw no device."""
    kernels, copies = window.of_type(KERNEL), window.of_type(COPY)
    chosen = kernels | copies | window.of_type(MEMSET)
    if not chosen.any():
        return None
    event = {name: column[chosen] for name, column in window.event.items()}
    names = window.header.names
    collective = kernels[chosen] & matching(names, COLLECTIVE_KERNEL)[event["name"]]
    to_device = copies[chosen] & matching(names, TO_DEVICE)[event["name"]]
    return DeviceActivity(
        name=event["name"],
        start=event["start"],
        end=event["end"],
        stream=event["device"] * 1_000_003 + event["stream"],
        bytes=event["bytes"],
        launched=_launches(window, event),
        correlation=event["correlation"],
        kernel=kernels[chosen] & ~collective,
        collective=collective,
        to_device=to_device,
        pageable=to_device & matching(names, _PAGEABLE)[event["name"]],
        copy=copies[chosen],
        memory=~kernels[chosen] & ~to_device,
    )


def crossings(activity: DeviceActivity, boundaries: Times) -> Times:
    """Return where the device crosses each boundary of the host.

    That is the end of the last thing the host had launched by then, or the host's own moment
    where the device was idle.
    """
    order = np.argsort(activity.launched, kind="stable")
    finished = np.maximum.accumulate(activity.end[order])
    before = np.searchsorted(activity.launched[order], boundaries, "left")
    crossed: Times = np.where(before > 0, np.maximum(boundaries, finished[before - 1]), boundaries)
    return crossed


def matching(names: list[str], pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return np.array([bool(pattern.search(name)) for name in names], np.bool_)


def _launches(window: Window, event: dict[str, Times]) -> Times:
    """Return when the host launched each device event.

    Without a launch record an event takes that of the one before it on its stream, since
    streams are first in, first out; the first ones of a stream were launched before the window.
    Where not one has a record, all are taken to have been launched as they began.
    """
    runtime = window.of_type(RUNTIME, DRIVER)
    known, first = np.unique(window.event["correlation"][runtime], return_index=True)
    found = np.isin(event["correlation"], known)
    if not found.any():
        return np.array(event["start"], np.int64)
    at = np.clip(np.searchsorted(known, event["correlation"]), 0, len(known) - 1)
    launched = np.where(found, window.event["start"][runtime][first][at], BEFORE)
    order = np.lexsort((event["start"], event["device"], event["stream"]))
    stream = event["stream"][order] + event["device"][order] * 1_000_003
    opens = np.concatenate(([True], stream[1:] != stream[:-1]))
    known_at = np.where(found[order] | opens, np.arange(len(order)), 0)
    filled = np.empty_like(launched)
    filled[order] = launched[order][np.maximum.accumulate(known_at)]
    return filled
