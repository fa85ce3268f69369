"""Multiply matrices and convolve, by type, on the CPU and on the GPU.

Runs in the user's interpreter: the standard library and torch. Sizes are doubled until one product
takes long enough to be timed, and the best size is repeated: a roof for shapes that fit the
machine well, which a network's own need not do. Not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from speedprof.profiler.roofs.order import first_line
from speedprof.profiler.roofs.repeats import Plain, level, seconds

TYPES = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SIDES = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (1024, 2048, 4096, 8192, 16384)}
BATCHES = {"cpu": (1, 2, 4, 8, 16, 32), "cuda": (8, 16, 32, 64, 128, 256)}
LONG_S = {"cpu": 0.05, "cuda": 0.01}  # a product of this size is large enough
BUDGET_S = {"cpu": 0.8, "cuda": 0.4}
TRIES = 3  # of each size; the first one warms up
CALLS = {"cpu": 1, "cuda": 10}  # in one timing
CHANNELS, SPOTS, KERNEL = 128, 56, 3  # in and out, side of the picture and of the filter
FIRST_WITH_TF32 = 8  # compute capability

Product = Callable[[], object]


def measure(what: str, device: str) -> tuple[Plain, dict[str, str]]:
    """Return {type: level} of "matmul" or "convolution" on "cpu" or "cuda", and what is absent."""
    import torch

    found: Plain = {}
    absent: dict[str, str] = {}
    for name in _types(device):
        why = _lacking(name)
        try:
            with torch.inference_mode(), _settings(tf32=name == "tf32"):
                if why is None:
                    found[name] = _best(what, getattr(torch, TYPES[name]), device)
        except RuntimeError as error:
            why = f"it failed: {first_line(error)}"
        if why is not None:
            absent[f"{what}: {device} {name}"] = why
    return found, absent


def _types(device: str) -> list[str]:
    return [name for name in TYPES if device == "cuda" or name != "tf32"]


def _lacking(name: str) -> str | None:
    """Return why a GPU cannot compute in a type at all."""
    import torch

    if name != "tf32":
        return None
    if torch.version.hip is not None or torch.cuda.get_device_capability()[0] < FIRST_WITH_TF32:
        return "this GPU has no TF32"
    return None


@contextmanager
def _settings(*, tf32: bool) -> Iterator[None]:
    """Let fp32 products use TF32 or not, and cuDNN look for its fastest algorithm."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = tf32, tf32, True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def _best(what: str, dtype: Any, device: str) -> Plain:
    """Look for the size that runs best, then repeat it: TFLOP/s."""
    import torch

    rates: list[tuple[float, int, int]] = []  # TFLOP/s, size, variant
    for size in SIDES[device] if what == "matmul" else BATCHES[device]:
        longest = 0.0
        try:
            for variant, product in enumerate(_products(what, size, dtype, device)):
                taken = min(_time(product, device) for _ in range(TRIES))
                rates.append((_flops(what, size) / taken / 1e12, size, variant))
                longest = max(longest, taken)
        except torch.OutOfMemoryError:
            if not rates:
                raise
            break
        if longest > LONG_S[device]:
            break
    _, size, variant = max(rates)
    product = _products(what, size, dtype, device)[variant]
    flops = _flops(what, size) / 1e12
    return level(lambda: flops / _time(product, device), budget_s=BUDGET_S[device])


def _products(what: str, size: int, dtype: Any, device: str) -> list[Product]:
    """Return the ways to do one product; a convolution has two memory formats."""
    return (
        [_matmul(size, dtype, device)] if what == "matmul" else _convolutions(size, dtype, device)
    )


def _flops(what: str, size: int) -> float:
    if what == "matmul":
        return 2.0 * size**3
    return 2.0 * size * (CHANNELS * KERNEL * SPOTS) ** 2


def _matmul(size: int, dtype: Any, device: str) -> Product:
    import torch

    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    result = torch.empty(size, size, device=device, dtype=dtype)
    return lambda: torch.mm(first, second, out=result)


def _convolutions(batch: int, dtype: Any, device: str) -> list[Product]:
    import torch

    pictures = torch.randn(batch, CHANNELS, SPOTS, SPOTS, device=device).to(dtype)
    filters = torch.randn(CHANNELS, CHANNELS, KERNEL, KERNEL, device=device).to(dtype)
    return [
        _convolution(pictures.to(memory_format=order), filters.to(memory_format=order))
        for order in (torch.contiguous_format, torch.channels_last)
    ]


def _convolution(pictures: Any, filters: Any) -> Product:
    import torch

    return lambda: torch.nn.functional.conv2d(pictures, filters, padding=KERNEL // 2)


def _time(product: Product, device: str) -> float:
    """Return seconds of one product; on a GPU by its own clock."""
    calls = CALLS[device]
    if device == "cpu":
        return seconds(lambda: [product() for _ in range(calls)]) / calls
    return gpu_seconds(product, calls) / calls


def gpu_seconds(action: Product, calls: int) -> float:
    """Return how long the GPU takes for some calls, by CUDA events around them."""
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        action()
    end.record()
    end.synchronize()
    return max(float(begin.elapsed_time(end)), 1e-6) / 1e3
