"""Switches of torch and of the environment that matter for speed, as pairs of words.

Told twice: when the record begins, and again at the first optimizer step, because scripts set
them after importing torch. The later word counts.
"""

from __future__ import annotations

import os
import sys
from typing import Any

FLAG_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_LAUNCH_BLOCKING",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "NCCL_DEBUG",
    "NCCL_IB_DISABLE",
    "NCCL_NET_GDR_LEVEL",
    "NCCL_P2P_DISABLE",
    "NCCL_SHM_DISABLE",
    "NCCL_SOCKET_IFNAME",
    "TORCH_DISTRIBUTED_DEBUG",
    "TOKENIZERS_PARALLELISM",
)
ATTENTION = ("flash", "mem_efficient", "cudnn", "math")  # backends of scaled_dot_product_attention
WHOLE = ("ieee", "none")  # what torch's newer switch calls full precision


def flags(torch: Any) -> dict[str, str]:
    """Return what is switched on in this process."""
    cudnn = torch.backends.cudnn
    found = {
        "float32_matmul_precision": _matmul_precision(torch),
        "cudnn.enabled": str(cudnn.enabled),
        "cudnn.benchmark": str(cudnn.benchmark),
        "cudnn.deterministic": str(cudnn.deterministic),
        "deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "anomaly_detection": str(torch.is_anomaly_enabled()),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    convolutions = _convolution_tf32(cudnn)
    if convolutions is not None:
        found["cudnn.allow_tf32"] = str(convolutions)
    bf16 = _cpu_bf16(torch)
    if bf16 is not None:
        found["cpu_bf16"] = "yes" if bf16 else "no"
    return found | {name: os.environ[name] for name in FLAG_VARIABLES if name in os.environ}


def in_training(torch: Any) -> dict[str, str]:
    """Return what is known once the first update was made; starts no device that is not in use."""
    found, profilers = flags(torch), _profilers()
    if profilers:
        found["profilers"] = ", ".join(profilers)
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        found["backend"] = distributed.get_backend()
    if torch.cuda.is_initialized():
        major, minor = torch.cuda.get_device_capability()
        found["cuda_capability"] = f"{major}.{minor}"
        found["sdpa"] = ", ".join(name for name in ATTENTION if _attends(torch, name))
    return found


def _attends(torch: Any, backend: str) -> bool:
    """Tell whether this backend of scaled_dot_product_attention is enabled."""
    enabled = getattr(torch.backends.cuda, f"{backend}_sdp_enabled", None)
    return enabled is not None and bool(enabled())


def _matmul_precision(torch: Any) -> str:
    """Return "highest", "high" or "medium", whichever of torch's two switches was used.

    The older one raises RuntimeError once the newer one, of torch 2.9, was turned.
    """
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:
        newer = torch.backends.cuda.matmul.fp32_precision
    return "highest" if newer in WHOLE else "high" if newer == "tf32" else str(newer)


def _convolution_tf32(cudnn: Any) -> bool | None:
    """Tell whether cuDNN may multiply in TF32; None where torch's two switches disagree."""
    try:
        return bool(cudnn.allow_tf32)
    except RuntimeError:
        newer = getattr(getattr(cudnn, "conv", None), "fp32_precision", None)
    return None if newer is None else newer == "tf32"


def _profilers() -> list[str]:
    """Return which tools of Python's own look at every call or line of this process."""
    found = ["cProfile"] if sys.getprofile() is not None else []
    found += ["sys.settrace"] if sys.gettrace() is not None else []
    monitoring = getattr(sys, "monitoring", None)  # of Python 3.12
    if monitoring is not None and not found:
        tool = monitoring.get_tool(monitoring.PROFILER_ID)
        found += [str(tool)] if tool else []
    return found


def _cpu_bf16(torch: Any) -> bool | None:
    """Tell whether the CPU multiplies bfloat16 in hardware; None where torch cannot say."""
    if hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return None if asked is None else bool(asked())
