"""Remedies for copies between host and device."""

from __future__ import annotations

from speedprof.mitigations.copies import (
    non_blocking_copies,
    pin_memory,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    pin_memory.MITIGATION,
    non_blocking_copies.MITIGATION,
)
