"""Remedies for batches that come too late."""

from __future__ import annotations

from speedprof.mitigations.loading import (
    cache_samples,
    faster_decoding,
    fewer_threads,
    generator_to_loader,
    in_process_loading,
    loader_workers,
    nearer_storage,
    persistent_workers,
    smaller_batches,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    loader_workers.MITIGATION,
    persistent_workers.MITIGATION,
    in_process_loading.MITIGATION,
    generator_to_loader.MITIGATION,
    cache_samples.MITIGATION,
    nearer_storage.MITIGATION,
    faster_decoding.MITIGATION,
    fewer_threads.MITIGATION,
    smaller_batches.MITIGATION,
)
