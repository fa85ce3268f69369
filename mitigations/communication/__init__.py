"""Remedies for ranks that wait for each other."""

from __future__ import annotations

from speedprof.mitigations.communication import (
    balanced_ranks,
    bf16_gradients,
    ddp_buckets,
    ddp_instead_of_dp,
    fewer_exchanges,
    hybrid_sharding,
    local_sgd,
    nccl_network,
    no_sync,
    powersgd,
    sparse_gradients,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    balanced_ranks.MITIGATION,
    ddp_instead_of_dp.MITIGATION,
    no_sync.MITIGATION,
    ddp_buckets.MITIGATION,
    hybrid_sharding.MITIGATION,
    nccl_network.MITIGATION,
    bf16_gradients.MITIGATION,
    fewer_exchanges.MITIGATION,
    powersgd.MITIGATION,
    local_sgd.MITIGATION,
    sparse_gradients.MITIGATION,
)
