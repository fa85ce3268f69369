"""Remedies for copies between host and device."""

from __future__ import annotations

from speedprof.mitigations.copies import (
    non_blocking_copies,
    normalise_on_device,
    pin_memory,
    prefetch_to_device,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    pin_memory.MITIGATION,
    non_blocking_copies.MITIGATION,
    prefetch_to_device.MITIGATION,
    normalise_on_device.MITIGATION,
)
