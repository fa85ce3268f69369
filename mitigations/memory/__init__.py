"""Remedies for memory: its bandwidth, its capacity and its allocator."""

from __future__ import annotations

from speedprof.mitigations.memory import (
    activation_checkpointing,
    adafactor,
    adapters,
    eight_bit_optimizer,
    expandable_segments,
    gradient_accumulation,
    offloading,
    sharded_training,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    expandable_segments.MITIGATION,
    gradient_accumulation.MITIGATION,
    sharded_training.MITIGATION,
    activation_checkpointing.MITIGATION,
    offloading.MITIGATION,
    eight_bit_optimizer.MITIGATION,
    adafactor.MITIGATION,
    adapters.MITIGATION,
)
