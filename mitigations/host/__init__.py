"""Remedies for a device that waits for the host."""

from __future__ import annotations

from speedprof.mitigations.host import (
    collect_garbage_less,
    create_on_device,
    deferred_reading,
    no_debugging,
    rarer_checkpoints,
    rarer_evaluation,
    rarer_work,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    no_debugging.MITIGATION,
    deferred_reading.MITIGATION,
    create_on_device.MITIGATION,
    rarer_work.MITIGATION,
    collect_garbage_less.MITIGATION,
    rarer_checkpoints.MITIGATION,
    rarer_evaluation.MITIGATION,
)
