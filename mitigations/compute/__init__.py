"""Remedies that let the same computing take less time."""

from __future__ import annotations

from speedprof.mitigations.compute import (
    bf16_autocast,
    channels_last,
    compile_model,
    cuda_graphs,
    cudnn_benchmark,
    fp16_autocast,
    fused_attention,
    fused_optimizer,
    length_buckets,
    low_precision_norm,
    no_bias_before_norm,
    padded_dimensions,
    sequence_packing,
    set_to_none,
    tf32,
)
from speedprof.mitigations.mitigation import Mitigation

REMEDIES: tuple[Mitigation, ...] = (
    tf32.MITIGATION,
    bf16_autocast.MITIGATION,
    fp16_autocast.MITIGATION,
    channels_last.MITIGATION,
    compile_model.MITIGATION,
    cuda_graphs.MITIGATION,
    fused_attention.MITIGATION,
    fused_optimizer.MITIGATION,
    cudnn_benchmark.MITIGATION,
    low_precision_norm.MITIGATION,
    padded_dimensions.MITIGATION,
    set_to_none.MITIGATION,
    no_bias_before_norm.MITIGATION,
    length_buckets.MITIGATION,
    sequence_packing.MITIGATION,
)
