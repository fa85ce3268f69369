"""Gradients that travel between ranks in bfloat16, by DDP's one communication hook.

DDP takes a single hook and never gives it back. Ours therefore steps aside by itself: a hook that
the script registers later is called in its place, and once the remedy is undone, or where the
backend cannot sum bfloat16, gradients are averaged in their own type, as without any hook.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

from speedprof.mitigations.applied.process import REFUSALS, Applied, Process

_in_force: weakref.WeakKeyDictionary[Any, Exchange] = weakref.WeakKeyDictionary()


class Exchange:
    """What the hook of one DistributedDataParallel does at the moment."""

    def __init__(self, one: Applied, group: Any) -> None:
        self._one = one
        self._group = group
        self.theirs: tuple[Any, Any] | None = None  # the script's state and hook
        self.compressing = True
        self.met = False  # a bucket was sent

    def averaged(self, bucket: Any) -> Any:
        """Return a future of the bucket's gradients, averaged over the ranks."""
        from torch import distributed

        if self.theirs is not None:
            state, hook = self.theirs
            return hook(state, bucket)
        gradients = bucket.buffer()
        sent = self._compressed(gradients) if self.compressing else None
        if sent is not None:
            return sent.get_future().then(lambda ready: gradients.copy_(ready.value()[0]))
        gradients.div_(self._group.size())
        plain = distributed.all_reduce(gradients, group=self._group, async_op=True)
        return plain.get_future().then(lambda ready: ready.value()[0])

    def belongs_to(self, one: Applied) -> bool:
        return self._one is one

    def _compressed(self, gradients: Any) -> Any:
        """Begin to sum in bfloat16; None where these gradients, or this backend, cannot be."""
        import torch
        from torch import distributed

        if gradients.dtype != torch.float32 or gradients.is_sparse:
            return None
        half = gradients.to(torch.bfloat16).div_(self._group.size())
        try:
            sent = distributed.all_reduce(half, group=self._group, async_op=True)
        except REFUSALS as error:
            self.compressing = False
            backend = distributed.get_backend(self._group)
            self._one.note(f"{backend} does not sum bfloat16 ({_first_line(error)})")
            return None
        if not self.met:
            self.met = True
            self._one.effects += 1
        return sent


def apply(process: Process, one: Applied) -> None:
    """Have each DistributedDataParallel exchange in bfloat16 from the moment it is built."""
    from torch.nn.parallel import DistributedDataParallel as Wrapper

    adopt = process.fence.guard(f"remedy {one.name}: build", functools.partial(_adopt, one))
    build = Wrapper.__init__

    @functools.wraps(build)
    def initialise(model: Any, *positional: Any, **keywords: Any) -> None:
        build(model, *positional, **keywords)
        adopt(model)

    process.patches.replace(
        Wrapper, "__init__", initialise, reason=f"{one.name}: a communication hook"
    )
    for name, as_hook in (
        ("register_comm_hook", _as_given),
        ("_register_builtin_comm_hook", _as_python),
    ):
        process.patches.replace(
            Wrapper,
            name,
            _giving_way(one, getattr(Wrapper, name), as_hook),
            reason=f"{one.name}: the script's own hook wins",
        )
    process.changed(f"DistributedDataParallel: {one.name}: bfloat16", lambda: _take_back(one))


def travelling(model: Any) -> Any:
    """Return the type in which our hook exchanges a model's gradients, None: their own."""
    import torch

    ours = _in_force.get(model)
    return torch.bfloat16 if ours is not None and ours.compressing and not ours.theirs else None


def _hook(state: Exchange, bucket: Any) -> Any:
    return state.averaged(bucket)


def _adopt(one: Applied, model: Any) -> None:
    """Register our hook, past DDP's list of hooks: the model pickles and copies as before."""
    from torch import distributed

    why = _unsuited(model)
    if why is not None:
        one.note(f"gradients are exchanged as they are: {why}")
        return
    ours = Exchange(one, model.process_group)
    distributed._register_comm_hook(model.reducer, ours, _hook)  # noqa: SLF001 - see above
    _in_force[model] = ours


def _unsuited(model: Any) -> str | None:
    """Return why this model's gradients do not travel in bfloat16, None where they can."""
    import torch

    if model.process_group.size() < 2:
        return "one process alone exchanges nothing"
    if getattr(model, "_comm_hooks", None):
        return "DDP has a communication hook already"
    if getattr(model, "_use_python_reducer", False) or not hasattr(model, "reducer"):
        return "DDP exchanges at other moments than in backward"
    kinds = {p.dtype for p in model.parameters() if p.requires_grad}
    if torch.float32 not in kinds:
        return f"they are in {', '.join(sorted(map(_word, kinds)))} already"
    return None


def _giving_way(one: Applied, original: Any, as_hook: Any) -> Any:
    """Let the script register a hook after ours: once, as with torch itself."""

    @functools.wraps(original)
    def register(model: Any, *positional: Any, **keywords: Any) -> None:
        ours = _in_force.get(model)
        if ours is None or ours.theirs is not None:
            original(model, *positional, **keywords)
            return
        state, hook = as_hook(model, *positional, **keywords)
        ours.theirs = (state, hook)
        one.note("the script registers a communication hook of its own, which is used")

    return register


def _as_given(model: Any, state: Any, hook: Any) -> tuple[Any, Any]:
    """Do what `register_comm_hook` does but for telling the reducer, whose hook is ours."""
    model._check_comm_hook(hook)  # noqa: SLF001 - raises as torch does
    model.logger._set_comm_hook_name(hook.__qualname__)  # noqa: SLF001
    model._comm_hooks.append((hook, state))  # noqa: SLF001
    return state, hook


def _as_python(model: Any, comm_hook_type: Any) -> tuple[Any, Any]:
    """Return torch's Python hook that does the same as one of its built-in ones."""
    from torch import distributed
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    model.logger._set_comm_hook_name(str(comm_hook_type))  # noqa: SLF001
    plain = comm_hook_type == distributed.BuiltinCommHookType.ALLREDUCE
    hook = default_hooks.allreduce_hook if plain else default_hooks.fp16_compress_hook
    return model.process_group, hook


def _take_back(one: Applied) -> None:
    for ours in list(_in_force.values()):
        if ours.belongs_to(one):
            ours.compressing = False


def _word(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
