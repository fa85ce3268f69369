"""Backward passes of compiled graphs, which are computed without the compiler where they fail.

Torch runs the backward pass of a compiled graph through one class a graph, made when the graph is
compiled or read from its cache. The class knows the graph that was compiled; run by operators, on
what the compiled code was given, it gives the same gradients.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from speedprof.mitigations.applied.models import FAILURES, GiveUp, first_line
from speedprof.mitigations.applied.process import Process

CLASS, METHOD = "CompiledFunction", "_backward_impl"  # a torch without them is not guarded


class Backwards:
    """Guards the backward passes of what one model compiles."""

    def __init__(self, process: Process, reason: str, tell: GiveUp) -> None:
        from torch.autograd.function import FunctionMeta

        self._tell = tell
        self._here = threading.local()
        guard = process.fence.guard(f"{reason}: backward", self._guard)
        made: Any = FunctionMeta.__init__

        @functools.wraps(made)
        def making(kind: Any, name: str, *others: Any, **keywords: Any) -> None:
            made(kind, name, *others, **keywords)
            if name == CLASS and getattr(self._here, "inside", False):
                guard(kind)

        process.patches.replace(
            FunctionMeta, "__init__", making, reason=f"{reason}: see to backward passes"
        )

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a compiled call whose graphs are guarded, also those that it compiles later."""

        @functools.wraps(call)
        def within(*arguments: Any, **keywords: Any) -> Any:
            self._here.inside = True
            try:
                return call(*arguments, **keywords)
            finally:
                self._here.inside = False

        return within

    def _guard(self, kind: Any) -> None:
        if callable(getattr(kind, METHOD, None)):
            setattr(kind, METHOD, staticmethod(_Backward(kind, self._tell).run))


class _Backward:
    """The backward pass of one graph."""

    def __init__(self, kind: Any, tell: GiveUp) -> None:
        self._kind, self._tell = kind, tell
        self._compiled = getattr(kind, METHOD)
        self._ran: set[tuple[int, ...]] = set()  # sizes that vary, with which it has run
        self._graph: Any = None  # once the compiled one has failed

    def run(self, context: Any, given: list[Any]) -> Any:
        """Return the gradients.

        What it is given is kept the first time for each of the sizes that vary, when kernels are
        built, loaded and called as never before; later it goes as soon as it is used.
        """
        sizes = tuple(one for one in given if isinstance(one, int))
        if self._graph is None and sizes in self._ran:
            return self._compiled(context, given)
        kept = list(given)
        if self._graph is None:
            try:
                made = self._compiled(context, given)
            except FAILURES as error:
                self._graph = _graph_of(self._kind)
                if self._graph is None:
                    raise
                why = first_line(error)
            else:
                self._ran.add(sizes)
                return made
            self._tell(why)
        given.clear()
        return _by_operators(self._graph, kept)


def _graph_of(kind: Any) -> Any:
    """Return what was compiled, as torch.fx has it; None where this torch does not keep it."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    known: Any = getattr(kind, "_lazy_backward_info", None)
    if hasattr(known, "bw_module_fn"):  # it was read from the cache
        with unset_fake_temporarily():
            return known.bw_module_fn()
    return getattr(known, "bw_module", None)


def _by_operators(graph: Any, given: list[Any]) -> list[Any]:
    """Run a graph on what it takes, which is let go on the way."""
    import torch

    operators = torch.ops.aten
    views = (operators.view.default, operators._unsafe_view.default)  # noqa: SLF001 - its name
    for node in graph.graph.nodes:
        if node.target in views:  # what the compiled forward pass left may lie otherwise
            node.target = operators.reshape.default
    with (
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        return list(torch.fx.Interpreter(graph).boxed_run(given))
