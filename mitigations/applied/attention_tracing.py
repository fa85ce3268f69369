"""A module's forward as a graph of torch.fx, followed with the values of one real call.

Knowing the values, the tracer can take the branches that depend on sizes, iterate over chunks and
tell a mask from a scale. Where a path depends on what tensors hold, it refuses.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import operator
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.applied.twins import Call, fresh, kept, same_random, twin

# What tracing may meet in code that we did not write; anything else is the fence's
UNTRACEABLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
READS = ("item", "tolist", "numpy", "nonzero")  # what a tensor holds
TOLD = ("shape", "dtype", "device", "ndim", "is_cuda", "requires_grad")  # attributes of tensors
PLAIN = (bool, int, float, str, type(None))


class UntraceableError(ValueError):
    """Why a forward cannot be written as a graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A forward as a graph; `values` are those of its nodes in the call that was followed."""

    graph: Any
    root: Any  # the twin that was followed
    values: dict[Any, Any]
    fixed: bool  # holds for inputs of these shapes alone


def trace(module: Any, original: Any, call: Call) -> Traced:
    """Return the graph of a forward: for any sizes where that goes, else for those of this call.

    Raises UntraceableError, or what the code raises that is traced.
    """
    try:
        return _follow(module, original, call, sized=False)
    except UNTRACEABLE:  # sizes as constants go through more code
        return _follow(module, original, call, sized=True)


def _follow(module: Any, original: Any, call: Call, *, sized: bool) -> Traced:
    import torch

    kind = type(module)
    followed: Any = type(kind)
    root = twin(module, followed(kind.__name__, (kind,), {"forward": original}))
    names, plain = _named(original, call)
    tracer = _tracer_class()(names, sized=sized)
    with torch.no_grad(), same_random(call):
        torch.rand(())  # what a forward draws while it is traced differs from what it draws then
        before = kept(root)
        graph = tracer.trace(root, concrete_args=plain)
    if not _same(before, kept(root)):
        raise UntraceableError("its forward keeps values on the module")
    _check_inputs(graph, names)
    for node in graph.nodes:
        node.type = None  # annotations name what the generated code does not know
        if node.op == "call_function" and node.target.__name__ in ("_assert_is_none", "_assert"):
            graph.erase_node(node)
    return Traced(graph=graph, root=root, values=tracer.values, fixed=sized or tracer.by_size)


def _named(original: Any, call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a call's arguments by name, and the plain ones among them, which become constants."""
    arguments, keywords = fresh(call)
    signature = inspect.signature(original)
    bound = signature.bind(None, *arguments, **keywords)
    bound.apply_defaults()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = dict(list(bound.arguments.items())[1:])
    for name, value in list(named.items()):
        if signature.parameters[name].kind in variadic:
            if value:
                raise UntraceableError(f"its forward was called with further arguments in {name}")
            del named[name]
    return named, {name: value for name, value in named.items() if isinstance(value, PLAIN)}


def _check_inputs(graph: Any, names: dict[str, Any]) -> None:
    """Refuse a graph without one of the tensors: `isinstance` does not know a proxy for one."""
    for node in graph.find_nodes(op="placeholder"):
        if node.target in names and not node.users:
            raise UntraceableError(f"its argument {node.target} was lost in tracing")


def _same(before: dict[str, tuple[Any, ...]], after: dict[str, tuple[Any, ...]]) -> bool:
    """Tell whether a module holds what it held; constants of the tracer's own do not count."""
    left = {name: held for name, held in after.items() if not name.startswith("_tensor_constant")}
    return left.keys() == before.keys() and all(
        len(held) == len(before[name]) and all(map(operator.is_, held, before[name]))
        for name, held in left.items()
    )


@functools.cache
def _tracer_class() -> Any:
    from torch.fx import Proxy, Tracer

    proxy = type("KnownProxy", (_KnownProxy, Proxy), {})
    return type("KnowingTracer", (_KnowingTracer, Tracer), {"proxy_kind": proxy})


class _KnownProxy:
    """A proxy that tells what tensors are like where sizes are constants."""

    tracer: Any
    node: Any

    def __getattr__(self, name: str) -> Any:
        if name in TOLD and self.tracer.sized:
            return getattr(self.tracer.values[self.node], name)
        return super().__getattr__(name)  # type: ignore[misc]


class _KnowingTracer:
    """Follows a forward with the values of a real call; every submodule is a leaf."""

    proxy_kind: Any
    proxy_buffer_attributes = True
    root: Any

    def __init__(self, given: dict[str, Any], *, sized: bool) -> None:
        einops = sys.modules.get("einops")
        wrapped = [getattr(einops, name, None) for name in ("rearrange", "repeat", "einsum")]
        super().__init__(  # type: ignore[call-arg]
            autowrap_modules=(math,),
            autowrap_functions=tuple(one for one in wrapped if one is not None),
        )
        self.given = given
        self.sized = sized  # sizes are constants
        self.by_size = False  # a path was taken that depends on a size
        self.values: dict[Any, Any] = {}
        self._running = False

    def proxy(self, node: Any) -> Any:
        return self.proxy_kind(node, self)

    def is_leaf_module(self, _module: Any, _name: str) -> bool:
        return True

    def create_proxy(self, kind: str, target: Any, *arguments: Any, **keywords: Any) -> Any:
        if kind == "call_method" and target in READS:
            raise UntraceableError("its forward reads what tensors hold")
        made = super().create_proxy(kind, target, *arguments, **keywords)  # type: ignore[misc]
        with self._run():
            value = self.values[made.node] = self._value(made.node)
        if self.sized and kind != "placeholder" and target is not getattr and _is_size(value):
            return value
        return made

    def call_module(self, module: Any, forward: Any, arguments: Any, keywords: Any) -> Any:
        if self._running:
            return forward(*arguments, **keywords)
        return super().call_module(module, forward, arguments, keywords)  # type: ignore[misc]

    def getattr(self, name: str, value: Any, known: dict[str, Any]) -> Any:
        if self._running:
            return value
        return super().getattr(name, value, known)  # type: ignore[misc]

    def to_bool(self, proxy: Any) -> bool:
        import torch

        value = self.values[proxy.node]
        if isinstance(value, torch.Tensor):
            raise UntraceableError("its path depends on what tensors hold")
        self.by_size = True
        return bool(value)

    def iter(self, proxy: Any) -> Iterator[Any]:
        import torch

        value = self.values[proxy.node]
        self.by_size = self.by_size or isinstance(value, torch.Tensor)
        return iter([proxy[index] for index in range(len(value))])

    @contextlib.contextmanager
    def _run(self) -> Iterator[None]:
        self._running = True
        try:
            yield
        finally:
            self._running = False

    def _known(self, node: Any) -> Any:
        if node not in self.values:  # a constant, which the tracer stores without a proxy
            self.values[node] = self._value(node)
        return self.values[node]

    def _value(self, node: Any) -> Any:
        from torch.fx.node import map_arg

        if node.op == "placeholder":
            return self.given.get(node.target)
        if node.op == "get_attr":
            return operator.attrgetter(node.target)(self.root)
        arguments, keywords = map_arg(node.args, self._known), map_arg(node.kwargs, self._known)
        if node.op == "call_function":
            return node.target(*arguments, **keywords)
        if node.op == "call_module":
            return self.root.get_submodule(node.target)(*arguments, **keywords)
        return getattr(arguments[0], node.target)(*arguments[1:], **keywords)


def _is_size(value: Any) -> bool:
    import torch

    if isinstance(value, (tuple, list)):
        return bool(value) and all(isinstance(one, int) for one in value)
    return isinstance(value, (bool, int, float, torch.dtype, torch.device))
