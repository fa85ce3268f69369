"""Remedies for memory: its bandwidth, its capacity and its allocator."""

from __future__ import annotations

from speedprof.mitigations.memory import (
    expandable_segments,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (expandable_segments.MITIGATION,)
