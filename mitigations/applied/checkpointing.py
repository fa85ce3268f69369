"""Repeated blocks that keep their inputs only, and compute what is inside again in backward."""

from __future__ import annotations

from collections import Counter
from typing import Any

from speedprof.mitigations.applied.models import Chosen, around_forwards, when_trained
from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.applied.twins import Call

FEWEST = 2  # blocks of a kind; a single one is recomputed whole and saves nothing
# How models of transformers turn their own on: since version 5, and before
ENABLE = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
DISABLE = ("activation_checkpointing_disable", "gradient_checkpointing_disable")
THEIR_OWN = ("gradient_checkpointing", "grad_checkpointing", "use_checkpoint", "checkpointing")


def apply(process: Process, one: Applied) -> None:
    """Wrap the forward of each repeated block in torch's non-reentrant checkpoint.

    It keeps the random state, so that dropout drops the same again, and the autocast that was in
    force. Steps get longer by most of a forward pass: only freed memory is gained.
    """

    def adopt(model: Any) -> None:
        if _of_transformers(process, one, model):
            return
        blocks = _suited(one, model, _repeated(model))
        if not blocks:
            return
        chosen: Chosen[bool] = Chosen()
        for block in blocks:
            chosen.put(block, True)
        around_forwards(process, chosen, _checkpointed, f"{one.name}: keep inputs only")
        one.effects += len(blocks)
        _warn_of_ddp(one, blocks)

    when_trained(process, one.name, adopt)


def _checkpointed(original: Any, _chosen: bool, module: Any, call: Call) -> Any:
    import torch
    from torch.utils.checkpoint import checkpoint

    arguments, keywords = call
    if not (module.training and torch.is_grad_enabled()):
        return original(module, *arguments, **keywords)

    def forward(arguments: Any, keywords: Any) -> Any:
        return original(module, *arguments, **keywords)

    return checkpoint(forward, arguments, keywords, use_reentrant=False)


def _of_transformers(process: Process, one: Applied, model: Any) -> bool:
    """Use the model's own switch, which also turns its cache off; return whether it has one."""
    for inner in model.modules():
        enable = next(
            (getattr(inner, name, None) for name in ENABLE if hasattr(inner, name)), None
        )
        if callable(enable) and getattr(inner, "supports_gradient_checkpointing", False):
            break
    else:
        return False
    if inner.is_gradient_checkpointing:
        one.note("the script computes activations again already")
        return True
    enable()
    one.effects += 1
    disable = next(getattr(inner, name) for name in DISABLE if hasattr(inner, name))
    process.changed(f"{type(inner).__name__}: {one.name}", disable)
    return True


def _repeated(model: Any) -> list[Any]:
    """Return the outermost blocks of one class that stand in a list, with layers inside."""
    from torch import nn

    if isinstance(model, (nn.ModuleList, nn.Sequential)):
        layered = [child for child in model.children() if next(child.children(), None) is not None]
        often = Counter(map(type, layered))
        blocks = [child for child in layered if often[type(child)] >= FEWEST]
        if blocks:
            return blocks
    return [block for child in model.children() for block in _repeated(child)]


def _suited(one: Applied, model: Any, blocks: list[Any]) -> list[Any]:
    if not blocks:
        one.note(f"{type(model).__name__} has no list of blocks of one kind")
        return []
    if any(
        getattr(module, name, None) is True for module in model.modules() for name in THEIR_OWN
    ):
        one.note("the script computes activations again already")
        return []
    fit = []
    for block in blocks:
        why = _hindrance(block)
        if why is None:
            fit.append(block)
        else:
            one.note(f"{type(block).__name__} stays as it is: {why}")
    return fit


def _hindrance(block: Any) -> str | None:
    """Return why computing a block twice would not be the same as once."""
    from torch.nn.modules.batchnorm import _NormBase

    if type(block).__name__ == "FullyShardedDataParallel":
        return "its weights would be gathered twice"
    for module in block.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            return f"{type(module).__name__} would count each batch twice in its statistics"
    return None


def _warn_of_ddp(one: Applied, blocks: list[Any]) -> None:
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    each = Counter(id(p) for block in blocks for p in block.parameters())
    if any(times > 1 for times in each.values()):
        one.note(
            "blocks share weights: build DistributedDataParallel with static_graph=True, since "
            "these get their gradients in several parts"
        )
