"""Remedies for batches that come too late."""

from __future__ import annotations

from speedprof.mitigations.loading import (
    augment_on_device,
    batched_transforms,
    cache_samples,
    dali_loading,
    decode_on_gpu,
    deeper_prefetch,
    faster_decoding,
    fewer_threads,
    ffcv_loader,
    generator_to_loader,
    in_process_loading,
    loader_workers,
    nearer_storage,
    out_of_order_batches,
    persistent_workers,
    raw_pixels,
    set_epoch,
    sharded_files,
    smaller_batches,
    smaller_images,
    tokenise_offline,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    loader_workers.MITIGATION,
    persistent_workers.MITIGATION,
    deeper_prefetch.MITIGATION,
    in_process_loading.MITIGATION,
    generator_to_loader.MITIGATION,
    cache_samples.MITIGATION,
    nearer_storage.MITIGATION,
    sharded_files.MITIGATION,
    faster_decoding.MITIGATION,
    dali_loading.MITIGATION,
    decode_on_gpu.MITIGATION,
    raw_pixels.MITIGATION,
    tokenise_offline.MITIGATION,
    batched_transforms.MITIGATION,
    augment_on_device.MITIGATION,
    ffcv_loader.MITIGATION,
    fewer_threads.MITIGATION,
    smaller_batches.MITIGATION,
    smaller_images.MITIGATION,
    out_of_order_batches.MITIGATION,
    set_epoch.MITIGATION,
)
