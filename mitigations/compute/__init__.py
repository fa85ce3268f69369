"""Remedies that let the same computing take less time."""

from __future__ import annotations

from speedprof.mitigations.compute import (
    bf16_autocast,
    channels_last,
    compile_model,
    fused_optimizer,
    length_buckets,
    sequence_packing,
    tf32,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    tf32.MITIGATION,
    bf16_autocast.MITIGATION,
    channels_last.MITIGATION,
    compile_model.MITIGATION,
    fused_optimizer.MITIGATION,
    length_buckets.MITIGATION,
    sequence_packing.MITIGATION,
)
