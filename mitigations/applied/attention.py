"""Fused attention for modules that write softmax(q k^T) v out, and for transformers' models."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.applied import (
    attention_pattern,
    second_derivatives,
    transformers_attention,
)
from speedprof.mitigations.applied.attention_proof import difference
from speedprof.mitigations.applied.attention_tracing import UNTRACEABLE, Traced, trace
from speedprof.mitigations.applied.models import (
    Chosen,
    around_forwards,
    aside,
    tried,
    when_trained,
)
from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.applied.twins import HOOKS, PLAIN, Call

MOST_SHAPES = 8  # each is traced and proved, which takes as long as a few passes over the module
DEPTH = 3  # of functions that a forward calls, in which softmax is looked for
LEAVES = ("Softmax", "Dropout", "MultiheadAttention")  # no longer called as they were
THEIRS = ("torch.", "transformers.")
AGAIN = "differentiates gradients again (create_graph), which fused attention cannot"


def apply(process: Process, one: Applied) -> None:
    """Look for attention at the model's first pass; prove each module at its own first call."""

    def adopt(model: Any) -> None:
        where = second_derivatives.asked(model)
        if where is not None:
            one.note(f"{where} {AGAIN}")
            return
        if transformers_attention.adopt(process, one, model):
            return
        writing = [module for module in model.modules() if _may_attend(module)]
        if not writing:
            one.note(f"no module of {type(model).__name__} writes attention out")
            return
        chosen: Chosen[_Module] = Chosen()
        for module in writing:
            chosen.put(module, _Module(process, one, type(module).__name__))
        around_forwards(process, chosen, _attending, f"{one.name}: in one kernel")

    when_trained(process, one, adopt)


def _attending(original: Any, known: _Module, module: Any, call: Call) -> Any:
    import torch

    arguments, keywords = call
    forward = known.forward(original, module, call)
    if forward is None or torch.compiler.is_compiling():
        return (forward or original)(module, *arguments, **keywords)
    changed = functools.partial(forward, module, *arguments, **keywords)
    own = functools.partial(original, module, *arguments, **keywords)
    return tried(changed, own, known.give_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """What stands in for a module's forward, for calls of one kind."""

    kinds: tuple[Any, ...]
    shapes: tuple[Any, ...] | None  # None: any
    forward: Any  # None: the module's own
    settings: tuple[tuple[str, Any], ...] = ()  # plain attributes of the module when it was traced
    buffers: tuple[tuple[str, Any, int], ...] = ()  # name, tensor, version


class _Module:
    """The forwards that stand in for one module's own."""

    def __init__(self, process: Process, one: Applied, name: str) -> None:
        self._one, self._name = one, name
        self._variants: list[_Variant] = []
        self._build = process.fence.guard(f"remedy {one.name}", self._built)
        self._replaced = self._given_up = False

    def forward(self, original: Any, module: Any, call: Call) -> Any:
        """Return what to call in place of the module's forward, None for itself."""
        import torch

        if self._given_up:
            return None
        kinds, shapes = _kinds(module, call), _shapes(call)
        for variant in self._variants:
            if variant.kinds == kinds and variant.shapes in (None, shapes):
                return variant.forward if self._holds(variant, module) else None
        if torch.compiler.is_compiling() or not (module.training and torch.is_grad_enabled()):
            return None
        if len(self._variants) >= MOST_SHAPES:
            return None
        variant = self._build(original, module, call)
        if variant is None:
            variant = _Variant(kinds=kinds, shapes=shapes, forward=None)
        self._variants.append(variant)
        return variant.forward

    def give_up(self, why: str) -> None:
        self._given_up = True
        self._one.effects -= self._replaced
        self._one.note(f"{self._name} fails in one kernel and runs as it is written: {why}")

    def _holds(self, variant: _Variant, module: Any) -> bool:
        """Tell whether the module is as it was when its forward was rewritten."""
        import torch

        same = all(getattr(module, name, None) == value for name, value in variant.settings)
        if same and not torch.compiler.is_compiling():
            same = all(
                _at(module, name) is buffer and buffer._version == version  # noqa: SLF001
                for name, buffer, version in variant.buffers
            )
        if not same:
            self._given_up = True
            self._one.note(f"{self._name} changed meanwhile; it runs as it is written")
        return same

    def _built(self, original: Any, module: Any, call: Call) -> _Variant | None:
        # sizes that vary: the last of the variants is to hold for all of them, if one can
        fold = len(self._variants) < MOST_SHAPES - 1
        try:
            with aside():
                found = _rewritten(original, module, call, fold=fold)
        except UNTRACEABLE as error:
            self._one.note(f"{self._name} stays as it is: {_said(error)}")
            return None
        if isinstance(found, str):
            self._one.note(f"{self._name} stays as it is: {found}")
            return None
        if not self._replaced:
            self._one.effects += 1
            self._replaced = True
        return found


def _rewritten(original: Any, module: Any, call: Call, *, fold: bool) -> _Variant | str:
    """Return the forward with fused attention and what it rests on, or why there is none."""
    if any(_is_watched(inside) for inside in module.modules()):
        return "hooks look at its weights"
    traced = trace(module, original, call)
    found = attention_pattern.replace(traced, fold=fold)
    if not found.count:
        return "it has a softmax, but no attention as it is understood"
    missing = [n.target for n in traced.graph.nodes if n.op in _OWN and not _has(module, n.target)]
    if missing:
        return f"it makes {missing[0]} anew"
    forward = _function(traced)
    apart = difference(module, original, forward, call)
    if apart is not None:
        return f"the fused kernel does not compute the same: {apart}"
    return _Variant(
        kinds=_kinds(module, call),
        shapes=_shapes(call) if traced.fixed or found.causal else None,
        forward=forward,
        settings=tuple((n, v) for n, v in vars(module).items() if isinstance(v, PLAIN)),
        buffers=_watched(module, found.causal),
    )


_OWN = ("get_attr", "call_module")


def _watched(module: Any, names: tuple[str, ...]) -> tuple[tuple[str, Any, int], ...]:
    """Return the tensors that a rewritten forward took for constants."""
    import torch

    held = {name: _at(module, name) for name in names}
    held |= {name: one for name, one in vars(module).items() if isinstance(one, torch.Tensor)}
    return tuple((name, one, one._version) for name, one in held.items())  # noqa: SLF001


def _function(traced: Traced) -> Any:
    """Return the graph as a function of the module and its inputs."""
    from torch.fx import GraphModule

    return type(GraphModule(traced.root, traced.graph)).forward


def _may_attend(module: Any) -> bool:
    """Tell whether a module's own code, or what it calls, takes a softmax and multiplies."""
    kind = type(module)
    if kind.__module__.startswith(THEIRS) or "forward" in vars(module):
        return False
    leaves = {type(child).__name__ for child in module.children()}
    if "MultiheadAttention" in leaves:
        return True
    codes = list(_code(kind, getattr(kind, "forward", None), DEPTH))
    softmax = "Softmax" in leaves or any("softmax" in code.co_names for code in codes)
    return softmax and any(map(_multiplies, codes))


def _multiplies(code: types.CodeType) -> bool:
    if set(code.co_names) & set(attention_pattern.PRODUCTS):
        return True
    told = ((one.opname, one.argrepr) for one in dis.get_instructions(code))
    return any(name == "BINARY_MATRIX_MULTIPLY" or sign == "@" for name, sign in told)


def _code(kind: type, function: Any, depth: int) -> Iterator[types.CodeType]:
    """Yield the code of a function and of those that it calls."""
    function = getattr(function, "__wrapped__", function)
    if not isinstance(function, types.FunctionType):
        return
    code = function.__code__
    yield code
    yield from (one for one in code.co_consts if isinstance(one, types.CodeType))
    if depth:
        for name in code.co_names:
            called = getattr(kind, name, None) or function.__globals__.get(name)
            if called is not function:
                yield from _code(kind, called, depth - 1)


def _is_watched(module: Any) -> bool:
    leaf = type(module).__name__ in LEAVES
    return leaf and any(getattr(module, name, None) for name in HOOKS)


def _kinds(module: Any, call: Call) -> tuple[Any, ...]:
    arguments, keywords = call
    given = [(name, _kind(keywords[name])) for name in sorted(keywords)]
    return (module.training, *(_kind(one) for one in arguments), *given)


def _kind(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return (value.dtype, value.dim())
    return (type(value), value if isinstance(value, PLAIN) else None)


def _shapes(call: Call) -> tuple[Any, ...]:
    """Return the sizes of what a forward is given; of nested arguments too."""
    arguments, keywords = call
    return tuple(
        _shape(one) for one in (*arguments, *(keywords[name] for name in sorted(keywords)))
    )


def _shape(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), value.device)
    if isinstance(value, (list, tuple)):
        return tuple(_shape(one) for one in value)
    return None


def _at(module: Any, path: str) -> Any:
    return functools.reduce(lambda held, name: getattr(held, name, None), path.split("."), module)


def _has(module: Any, path: str) -> bool:
    return _at(module, path) is not None


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
