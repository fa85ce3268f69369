"""What the training module is made of, seen once, at its optimizer's first step."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from typing import Any

MOST_NAMES = 200  # classes of modules that are told
MOST_DIMS = 50
DIM_FROM = 64  # smaller layers cost too little for their size to matter
MULTIPLE = 8  # elements: tensor cores take 16-bit rows in such pieces
# what transformers, timm and others call the switch of their own checkpointing
CHECKPOINT_SWITCHES = ("gradient_checkpointing", "grad_checkpointing", "use_checkpoint")
WRAPPERS = (
    "DistributedDataParallel",
    "DataParallel",
    "FullyShardedDataParallel",
    "DeepSpeedEngine",
)
COMPILED = "OptimizedModule"  # what torch.compile makes of a module
MIB = 1 << 20


def identity(model: Any) -> dict[str, object]:
    """Name a module as its author would, and what it was put into."""
    chain = [model]
    while (inner := _wrapped(chain[-1])) is not None:
        chain.append(inner)
    kinds = [type(module).__name__ for module in chain]
    compiled = any(
        type(module).__name__ == COMPILED
        or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    return {
        "name": kinds[-1].removeprefix("FSDP"),  # fully_shard names classes so
        "compiled": compiled,
        "wrapped": next((kind for kind in kinds if kind in WRAPPERS or "FSDP" in kind), None),
    }


def _wrapped(module: Any) -> Any:
    """Return what a wrapper stands for, None where the module stands for itself."""
    kind = type(module).__name__
    name = "_orig_mod" if kind == COMPILED else "module" if kind in WRAPPERS else None
    return None if name is None else getattr(module, name, None)


def inside(model: Any) -> dict[str, object]:
    """Describe a module from within; the fields are those of `profiler.run.Model`."""
    modules = list(model.modules())
    names = Counter(type(module).__name__ for module in modules)
    wrapper = data_parallel(model)
    return {
        "modules": dict(names.most_common(MOST_NAMES)),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "channels_last": _channels_last(model),
        "biased_before_norm": _biased_before_norm(modules),
        "odd_dims": _odd_dims(modules),
        "checkpointed": _switched(modules),
        "exchange": None if wrapper is None else _exchange(wrapper),
    }


def data_parallel(model: Any) -> Any:
    """Return the DistributedDataParallel in or around a module, None where there is none."""
    parallel = sys.modules.get("torch.nn.parallel.distributed")
    if parallel is None:
        return None
    wrappers = (m for m in model.modules() if isinstance(m, parallel.DistributedDataParallel))
    return next(wrappers, None)


def _channels_last(model: Any) -> bool | None:
    """Tell how the first four-dimensional parameter lies in memory whose layouts differ at all."""
    layout = sys.modules["torch"].channels_last
    for parameter in model.parameters():
        if parameter.dim() == 4:
            rows, last = parameter.is_contiguous(), parameter.is_contiguous(memory_format=layout)
            if rows != last:
                return bool(last)
    return None


def _biased_before_norm(modules: list[Any]) -> int:
    """Count the convolutions with bias whose next sibling is a batch norm of their output."""
    return sum(
        _is_biased_convolution(first)
        and "BatchNorm" in type(second).__name__
        and getattr(second, "num_features", None) == first.out_channels
        for module in modules
        for first, second in pairwise(module.children())
    )


def _is_biased_convolution(module: Any) -> bool:
    convolves = type(module).__name__.startswith(("Conv", "LazyConv"))
    return (
        convolves and getattr(module, "bias", None) is not None and hasattr(module, "out_channels")
    )


def _odd_dims(modules: list[Any]) -> list[int]:
    """Return the sizes of linear layers and embeddings that tensor cores cannot cut evenly."""
    names = ("in_features", "out_features", "num_embeddings", "embedding_dim")
    sizes = {
        size
        for module in modules
        if "Linear" in type(module).__name__ or "Embedding" in type(module).__name__
        for size in (getattr(module, name, None) for name in names)
        if isinstance(size, int) and size >= DIM_FROM and size % MULTIPLE
    }
    return sorted(sizes)[:MOST_DIMS]


def _switched(modules: list[Any]) -> bool | None:
    """Tell whether modules say that they checkpoint their activations; None: they do not say."""
    if any(type(module).__name__ == "CheckpointWrapper" for module in modules):
        return True
    said = [vars(module).get(name) for module in modules for name in CHECKPOINT_SWITCHES]
    told = [value for value in said if isinstance(value, bool)]
    return any(told) if told else None


def _exchange(wrapper: Any) -> dict[str, object]:
    """Describe how gradients are exchanged, by DDP's own attributes."""
    cap = getattr(wrapper, "bucket_bytes_cap", None)
    hooks = getattr(wrapper, "_comm_hooks", None)
    return {
        "bucket_cap_mb": cap / MIB if isinstance(cap, (int, float)) else None,
        "find_unused_parameters": _truth(wrapper, "find_unused_parameters"),
        "gradient_as_bucket_view": _truth(wrapper, "gradient_as_bucket_view"),
        "static_graph": _truth(wrapper, "static_graph"),
        "hooked": None if hooks is None else bool(hooks),
    }


def _truth(wrapper: Any, name: str) -> bool | None:
    value = getattr(wrapper, name, None)
    return value if isinstance(value, bool) else None
