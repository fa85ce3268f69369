"""Accumulated gradients exchanged once for each update, and not after every backward pass.

How many passes make an update is learnt from the first ones, and all ranks agree on it in one
small exchange, at passes that are the same for all, before any of them leaves an exchange out. An
exchange too many is always right. Where an update comes before the last pass of its pattern (at
the end of an epoch), what was gathered is exchanged before anything of torch reads it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import weakref
from collections.abc import Iterator
from typing import Any

from speedprof.mitigations.applied import gradient_compression
from speedprof.mitigations.applied.backward_passes import Passes, came_of
from speedprof.mitigations.applied.gradient_exchange import all_agree, average
from speedprof.mitigations.applied.process import Applied, Process
from speedprof.profiler.fence import Fence

KNOWN_HOOKS = {  # of torch, as scripts register them: what travels
    "allreduce_hook": None,
    "fp16_compress_hook": "float16",
    "bf16_compress_hook": "bfloat16",
}


class Accumulation:
    """The remedy in force: it sees the passes of each model, and its updates."""

    def __init__(self, one: Applied, fence: Fence) -> None:
        self._one = one
        self._models: weakref.WeakKeyDictionary[Any, Passes] = weakref.WeakKeyDictionary()
        self._all: list[Passes] = []
        self._notes: list[str] = []  # as told last: more may come
        self._passed = fence.guard(f"remedy {one.name}: backward", self._counted)

    def begins(self, model: Any) -> bool:
        """Tell whether the pass that begins with this forward stays on its rank.

        One rank alone may make forward passes without a backward one: to evaluate, or to look at
        something. DDP must expect nothing after them, but for those just before an exchange; so
        the first pass after an update that came before its exchange makes one.
        """
        import torch

        if not torch.is_grad_enabled():
            return False
        passes = self._models.get(model)
        if passes is None:
            passes = self._models[model] = Passes(model)
            self._all.append(passes)
            passes.off = model.process_group.size() < 2
            if passes.off:
                self._one.note("one process alone exchanges nothing")
        if passes.off:
            return False
        why = _other_way(model)
        if why is not None:
            self._stop(passes, why)
            return False
        passes.begun = True
        in_full = passes.since == passes.every - 1 or passes.was_early
        return passes.every > 1 and not (model.training and in_full)

    def ended(self, model: Any, output: Any, leaving: bool) -> None:
        """Have the backward pass through this output counted: whether it is left out, too.

        Between a forward pass and its backward one, a rank may make others that it alone makes.
        """
        passes = self._models.get(model)
        if passes is None or not passes.begun:
            return
        nodes = {id(node): node for node in _graph_nodes(output)}
        for node in nodes.values():
            node.register_prehook(functools.partial(self._passed, passes, leaving, model.training))

    def is_waiting(self) -> bool:
        """Tell whether an update has begun whose gradients differ between ranks.

        Its exchange must still come, even where the remedy is taken back meanwhile.
        """
        return any(passes.waiting for passes in self._models.values())

    def waiting(self, parameters: Any) -> list[Passes]:
        """Return the models of these parameters whose gradients were not exchanged yet."""
        some = [passes for passes in self._models.values() if passes.waiting]
        if not some:
            return []
        wanted = set(map(id, parameters))
        return [passes for passes in some if wanted & passes.parameters]

    def updates(self, optimizer: Any, closure: Any = None) -> None:
        """Note that an optimizer is about to step."""
        for passes in self._models.values():
            if any(id(p) in passes.parameters for p in held(optimizer)):
                if closure is not None:
                    self._stop(passes, "its backward passes run inside the optimizer's step")
                passes.updated()

    def tell(self) -> None:
        """Say what came of it so far."""
        self._one.notes = [text for text in self._one.notes if text not in self._notes]
        self._notes = [text for text in map(came_of, self._all) if text is not None]
        for text in self._notes:
            self._one.note(text)
        self._one.effects = sum(passes.left for passes in self._all)

    def _counted(self, passes: Passes, leaving: bool, training: bool, _gradients: Any) -> None:
        """Count a backward pass; now and then, ask the other ranks for their pattern.

        They are asked in backward passes, which all ranks make together: a forward pass may be
        that of one rank alone.
        """
        asks = training and passes.begun and passes.total >= passes.look_at
        passes.seen(leaving)
        model = passes.model()
        if asks and model is not None:
            self._agree(model, passes)

    def _agree(self, model: Any, passes: Passes) -> None:
        """Ask the other ranks for their pattern; without one of theirs, what was agreed stays."""
        passes.look_at *= 2
        pattern = 0 if _unsuited(model) else passes.pattern
        if not all_agree(model, (pattern, passes.since)):
            passes.every = 1
            self._one.note("ranks differ in how many backward passes an update has")
        elif _unsuited(model):
            self._stop(passes, _unsuited(model) or "")
        elif pattern:
            passes.every = pattern

    def _stop(self, passes: Passes, why: str) -> None:
        passes.off, passes.every = True, 1
        self._one.note(f"exchanges stay as they are: {why}")


def apply(process: Process, one: Applied) -> None:
    """Leave exchanges out as `DistributedDataParallel.no_sync()` does, where nobody reads them."""
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    found = Accumulation(one, process.fence)
    _around_forward(process, found, DistributedDataParallel)
    updates = process.fence.guard(f"remedy {one.name}: update", found.updates)

    def stepping(optimizer: Any, arguments: Any, keywords: Any) -> None:
        _exchange(process, found, held(optimizer))
        updates(optimizer, keywords.get("closure") or (arguments[1:] or (None,))[0])

    handle = register_optimizer_step_pre_hook(stepping)
    process.changed(
        f"torch.optim.Optimizer: {one.name}: count updates",
        lambda: None if found.is_waiting() else handle.remove(),
    )
    _before_readers(process, found)
    process.at_end.append(found.tell)


def held(optimizer: Any) -> Iterator[Any]:
    """Return the parameters of an optimizer."""
    return (p for group in optimizer.param_groups for p in group["params"])


def _around_forward(process: Process, found: Accumulation, kind: Any) -> None:
    import torch

    original = kind.forward
    begins = process.fence.guard("remedy no-sync: forward", found.begins)
    ended = process.fence.guard("remedy no-sync: forward", found.ended)

    @functools.wraps(original)
    def forward(model: Any, *inputs: Any, **keywords: Any) -> Any:
        leaving = bool(begins(model))
        with model.no_sync() if leaving else contextlib.nullcontext():
            output = original(model, *inputs, **keywords)
        ended(model, output, leaving)
        return output

    process.patches.replace(
        kind,
        "forward",
        torch._disable_dynamo(forward, recursive=False),  # noqa: SLF001 - as DDP's own forward
        reason="no-sync: leave out exchanges that no update reads",
    )


def _before_readers(process: Process, found: Accumulation) -> None:
    """Exchange what waits before torch's own functions that read gradients ahead of an update."""
    from torch.amp import GradScaler

    for module in map(importlib.import_module, ("torch.nn.utils.clip_grad", "torch.nn.utils")):
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            process.patches.replace(
                module,
                name,
                _clipping(process, found, getattr(module, name)),
                reason="no-sync: exchange before gradients are clipped",
            )
    for name in ("unscale_", "step"):
        process.patches.replace(
            GradScaler,
            name,
            _scaling(process, found, getattr(GradScaler, name)),
            reason="no-sync: exchange before gradients are looked at",
        )


def _clipping(process: Process, found: Accumulation, original: Any) -> Any:
    import torch

    @functools.wraps(original)
    def clip(parameters: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(parameters, Iterator):
            parameters = list(parameters)
        alone = isinstance(parameters, torch.Tensor)
        _exchange(process, found, [parameters] if alone else parameters)
        return original(parameters, *arguments, **keywords)

    return clip


def _scaling(process: Process, found: Accumulation, original: Any) -> Any:
    updates = process.fence.guard("remedy no-sync: update", found.updates)
    stepping = original.__name__ == "step"

    @functools.wraps(original)
    def scaled(scaler: Any, optimizer: Any, *arguments: Any, **keywords: Any) -> Any:
        _exchange(process, found, held(optimizer))
        if stepping:  # an update, even where the scaler skips it
            updates(optimizer)
        return original(scaler, optimizer, *arguments, **keywords)

    return scaled


def _exchange(process: Process, found: Accumulation, parameters: Any) -> None:
    """Exchange what waits of these parameters.

    Not behind the fence: where ranks cannot reach each other, training must not go on, and
    would not without us.
    """
    for passes in process.fence.guard("remedy no-sync: update", found.waiting)(parameters) or ():
        model = passes.model()
        if model is not None:
            average(model, _travelling(model))
        passes.exchanged()


def _travelling(model: Any) -> Any:
    """Return the type in which the model's gradients are exchanged, None: their own."""
    import torch

    names = [KNOWN_HOOKS.get(_name(hook)) for hook, _ in getattr(model, "_comm_hooks", ())]
    if names and names[0] is not None:
        return getattr(torch, names[0])
    return gradient_compression.travelling(model)


def _other_way(model: Any) -> str | None:
    """Return which way the script has of its own, None where there is none."""
    if not model.require_backward_grad_sync:
        return "the script leaves exchanges out itself, by no_sync()"
    if model._join_config.enable:  # noqa: SLF001 - torch has no other sign
        return "ranks with fewer batches wait in join()"
    return None


def _unsuited(model: Any) -> str | None:
    """Return why nothing can be left out of this model's exchanges, None where it can."""
    hooks = [_name(hook) for hook, _ in getattr(model, "_comm_hooks", ())]
    unknown = next((name for name in hooks if name not in KNOWN_HOOKS), None)
    if unknown is not None:
        return f"the communication hook {unknown} decides what is exchanged"
    if getattr(model, "find_unused_parameters", False):  # it remembers those of passes left out
        return "which parameters are used may differ from pass to pass"
    if getattr(model, "mixed_precision", None) is not None:
        return "DDP exchanges in a mixed precision of its own"
    other = (
        "_use_python_reducer",
        "_delay_all_reduce_params",
        "require_manual_backward_finalization",
    )
    if any(getattr(model, name, None) for name in other):
        return "DDP exchanges at other moments than in backward"
    if any(getattr(module, "sparse", None) is True for module in model.module.modules()):
        return "some gradients are sparse"
    return None


def _name(hook: Any) -> str:
    """Return a hook's name, with parentheses where it is none of torch's own."""
    name: str = getattr(hook, "__name__", type(hook).__name__)
    known = str(getattr(hook, "__module__", "")).endswith(".default_hooks")
    return name if known else f"{name}()"


def _graph_nodes(output: Any) -> Iterator[Any]:
    """Return the functions that made the tensors in what a model returns."""
    from torch.nn.parallel.distributed import _find_tensors

    for tensor in _find_tensors(output):
        if tensor.grad_fn is not None:
            yield tensor.grad_fn
