"""Remedies for ranks that wait for each other."""

from __future__ import annotations

from speedprof.mitigations.communication import (
    balanced_ranks,
    bf16_gradients,
    ddp_buckets,
    fewer_exchanges,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    balanced_ranks.MITIGATION,
    ddp_buckets.MITIGATION,
    bf16_gradients.MITIGATION,
    fewer_exchanges.MITIGATION,
)
