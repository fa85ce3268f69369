"""Remedies that change the training itself; its quality is to be checked."""

from __future__ import annotations

from speedprof.mitigations.mitigation import Mitigation
from speedprof.mitigations.training import (
    larger_batch,
)

REMEDIES: tuple[Mitigation, ...] = (larger_batch.MITIGATION,)
