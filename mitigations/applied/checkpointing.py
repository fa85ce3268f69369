"""Repeated blocks that keep their inputs only, and compute what is inside again in backward."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

from speedprof.mitigations.applied.models import Chosen, around_forwards, when_trained
from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.applied.random_states import RandomStates
from speedprof.mitigations.applied.twins import Call

FEWEST = 2  # blocks of a kind; a single one is recomputed whole and saves nothing
# How models of transformers turn their own on: since version 5, and before
ENABLE = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
DISABLE = ("activation_checkpointing_disable", "gradient_checkpointing_disable")
THEIR_OWN = ("gradient_checkpointing", "grad_checkpointing", "use_checkpoint", "checkpointing")


def apply(process: Process, one: Applied) -> None:
    """Wrap the forward of each repeated block in torch's non-reentrant checkpoint.

    It keeps torch's random state, so that dropout drops the same again, and the autocast that was
    in force; those of Python and NumPy are kept here. Steps get longer by most of a forward pass:
    only freed memory is gained.
    """

    def adopt(model: Any) -> None:
        if _of_transformers(process, one, model):
            return
        blocks = _suited(one, model, _repeated(model))
        if not blocks:
            return
        chosen: Chosen[_Block] = Chosen()
        for block in blocks:
            chosen.put(block, _Block(one))
        around_forwards(process, chosen, _checkpointed, f"{one.name}: keep inputs only")
        one.effects += len(blocks)
        _warn_of_ddp(one, blocks)

    when_trained(process, one, adopt)


def _checkpointed(original: Any, block: _Block, module: Any, call: Call) -> Any:
    import torch

    if block.stays or not (module.training and torch.is_grad_enabled()):
        return original(module, *call[0], **call[1])
    own = functools.partial(original, module)
    if torch.compiler.is_compiling():
        return _kept_small(own, call)
    return block.first(own, module, call) if block.unknown else block.again(own, call)


def _kept_small(own: Any, call: Call) -> Any:
    from torch.utils.checkpoint import checkpoint

    def forward(arguments: Any, keywords: Any) -> Any:
        return own(*arguments, **keywords)

    return checkpoint(forward, *call, use_reentrant=False)


class _Block:
    """What one block does beside computing: seen at its first pass."""

    def __init__(self, one: Applied) -> None:
        self._one = one
        self.unknown = True
        self.stays = False  # it writes to what it would be computed from again
        self._draws = True  # from Python or NumPy

    def first(self, own: Any, module: Any, call: Call) -> Any:
        """Run it on copies, and as it is written where it wrote to those or to its buffers."""
        before, copies = RandomStates(), _copied(call)
        held = [(one, _version(one), one.clone()) for one in module.buffers()]
        given = [(one, _version(one)) for one in _tensors(copies)]
        made = self.again(own, copies)
        self.unknown = False
        self._draws = before.moved_beside_torch()
        if all(_version(one) == version for one, version, *_ in (*given, *held)):
            return made
        self.stays = True
        self._one.effects -= 1
        name = type(module).__name__
        self._one.note(f"{name} stays as it is: it writes to its inputs or buffers")
        _give_back(held)
        before.restore()
        return own(*call[0], **call[1])

    def again(self, own: Any, call: Call) -> Any:
        return _kept_small(_Drawing(own) if self._draws else own, call)


class _Drawing:
    """A forward that draws the same numbers each time it is called for one pass."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self._began: RandomStates | None = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self._began is None:
            self._began = RandomStates()
            return self._own(*arguments, **keywords)
        now = RandomStates()
        self._began.restore()
        try:
            return self._own(*arguments, **keywords)
        finally:
            now.restore()


def _copied(call: Call) -> Any:
    """Return a call with copies of its tensors, through which gradients pass."""
    import torch
    from torch.utils import _pytree

    return _pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, call)


def _tensors(call: Call) -> list[Any]:
    import torch
    from torch.utils import _pytree

    return [one for one in _pytree.tree_leaves(call) if isinstance(one, torch.Tensor)]


def _version(tensor: Any) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)  # noqa: SLF001 - torch counts writes


def _give_back(held: list[tuple[Any, int, Any]]) -> None:
    import torch

    with torch.no_grad():
        for buffer, version, value in held:
            if _version(buffer) != version:
                buffer.copy_(value)


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
    # what old versions take otherwise gives blocks behind frozen embeddings no gradients
    enable({"use_reentrant": False})
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
    if "forward" in vars(block):
        return "it has a forward of its own put on it"
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
