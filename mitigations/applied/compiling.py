"""Models compiled by torch.compile, for as long as that pays."""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any

from speedprof.mitigations.applied import second_derivatives
from speedprof.mitigations.applied.compiled_backward import Backwards
from speedprof.mitigations.applied.compiler_news import News
from speedprof.mitigations.applied.models import tried, when_trained
from speedprof.mitigations.applied.process import Applied, Process

# Entering a graph and leaving it in backward (guards, the call, autograd's part) costs 0.09 ms on
# a CPU core, launching an operator in both directions 0.007 ms: measured with one thread on
# tensors of 16 numbers, where a graph of 12 operators took as long as these did without it.
ENTRY_S = 90e-6
OPERATORS_PER_GRAPH = 12
DEAR = 0.1  # of the time from pass to pass, that entering graphs may take
BEFORE = 5  # passes without the compiler, to compare with; they are still warming up themselves
FEWEST = 8  # passes with it before steps are compared
KEPT = 200  # of the latest passes
ON_GRAPHS = ("reduce-overhead", "max-autotune")  # modes that record CUDA graphs
AGAIN = "differentiates gradients again (create_graph), which compiled graphs cannot"


def apply(process: Process, one: Applied) -> None:
    """Compile the model in place after its first passes; what cannot be compiled runs as it is.

    `torch._dynamo.config.suppress_errors` lets a frame that fails run without the compiler, and
    the backward pass is compiled together with the forward pass, where a failure can be caught.
    What that is given is not written over: it may run again, for `retain_graph` or after failing.
    """

    def adopt(model: Any) -> None:
        if model._compiled_call_impl is not None:  # noqa: SLF001 - torch has no other sign
            one.note("the script compiles the model itself")
            return
        where = second_derivatives.asked(model)
        if where is not None:
            one.note(f"{where} {AGAIN}")
            return
        _fall_back(process, one)
        compiled = _Compiled(process, one, model)
        model._compiled_call_impl = compiled  # noqa: SLF001 - as Module.compile does
        process.changed(f"{type(model).__name__}: {one.name}", compiled.undo)
        process.at_end.append(compiled.tell)

    when_trained(process, one, adopt)


def _fall_back(process: Process, one: Applied) -> None:
    from torch._dynamo import config as dynamo
    from torch._functorch import config as autograd

    for config, name, wanted in (
        (dynamo, "suppress_errors", True),
        (autograd, "force_non_lazy_backward_lowering", True),
        (autograd, "donated_buffer", False),
    ):
        before = getattr(config, name, None)
        if before is (not wanted):
            setattr(config, name, wanted)
            undo = functools.partial(setattr, config, name, before)
            process.changed(f"{config.__name__}.{name}: {one.name}: fall back", undo)


class _Compiled:
    """Stands where torch keeps a module's compiled call."""

    def __init__(self, process: Process, one: Applied, model: Any) -> None:
        self._one, self._model = one, model
        self._mode = str(one.parameters["mode"])
        self._news = News()
        self._look = process.fence.guard(f"remedy {one.name}: look", self._looked)
        self._watch = process.fence.guard(f"remedy {one.name}: watch", self._watched)
        self._backwards = Backwards(process, one.name, self._backward_failed)
        self._again = False  # gradients are differentiated
        self._over = False
        self._call: Any = None  # the compiled one
        self._on_graphs = False  # CUDA's
        self._began = 0  # ns, of the pass before; 0 where something else came between
        self._before: list[float] = []  # s from pass to pass
        self._with: list[float] = []

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        import torch

        plain = self._model._call_impl  # noqa: SLF001
        training = self._model.training and torch.is_grad_enabled()
        if torch.compiler.is_compiling() or (self._call is None and not training):
            return plain(*arguments, **keywords)
        self._look(training)
        if self._call is None:
            made = plain(*arguments, **keywords)
            self._watch(made)
            return made
        compiled = functools.partial(self._call, *arguments, **keywords)
        made = tried(compiled, functools.partial(plain, *arguments, **keywords), self._failed)
        return _apart(made) if self._on_graphs else made

    def _looked(self, training: bool) -> None:
        """Time the passes, begin compiling when enough were seen, and give up when it storms."""
        now = time.perf_counter_ns()
        compiled_meanwhile = self._news.changed()
        if self._began and training and not compiled_meanwhile:
            times = self._before if self._call is None else self._with
            times.append((now - self._began) / 1e9)
            del times[:-KEPT]
        self._began = now if training else 0
        if self._again:
            self._drop(f"the script {AGAIN}")
        elif self._call is None and len(self._before) >= BEFORE - 1:
            self._compile()
        elif self._call is not None and compiled_meanwhile:
            why = self._storm()
            if why is not None:
                self._drop(why)

    def _watched(self, made: Any) -> None:
        """See whether the gradients of what a pass made are to be differentiated again."""
        import torch
        from torch.utils import _pytree

        for one in _pytree.tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.grad_fn is not None:
                one.register_hook(self._differentiated)

    def _differentiated(self, _gradient: Any) -> None:
        import torch

        self._again = self._again or torch.is_grad_enabled()

    def _compile(self) -> None:
        import torch

        mode = None if self._mode == "default" else self._mode
        self._news.begin()
        compiled = torch.compile(self._model._call_impl, mode=mode)  # noqa: SLF001
        self._call = self._backwards.around(compiled)
        self._one.effects += 1
        on_gpu = any(p.is_cuda for p in self._model.parameters())
        self._on_graphs = self._mode in ON_GRAPHS and on_gpu
        if self._mode == ON_GRAPHS[0] and not on_gpu:
            self._one.note("CUDA graphs need a GPU; the model is compiled without them")

    def _storm(self) -> str | None:
        """Return why the compiler does not pay here, None where it may."""
        from torch._dynamo import config

        news = self._news
        limit = (
            getattr(config, "recompile_limit", None) or config.cache_size_limit
        )  # its older name
        if news.recompilations() >= limit:
            return (
                f"it was compiled again {news.recompilations()} times, after which Dynamo gives "
                f"up: {news.why_again()}"
            )
        graphs, operators = news.graphs(), news.operators()
        if not news.breaks():
            return None
        if not graphs:
            return f"nothing of it could be compiled: {news.reasons()}"
        dear = graphs * ENTRY_S / statistics.median(self._before)
        if operators >= OPERATORS_PER_GRAPH * graphs or dear <= DEAR:
            return None
        return (
            f"the graph broke {_times(news.breaks())}; entering its pieces, of "
            f"{operators / graphs:.1f} operators each, costs {100 * dear:.0f} % of a pass: "
            f"{news.reasons()}"
        )

    def _failed(self, why: str) -> None:
        self._drop(f"the compiled model failed ({why})")

    def _backward_failed(self, why: str) -> None:
        self._drop(f"the compiled backward pass failed ({why})")

    def _drop(self, why: str) -> None:
        if self._over:
            return
        self._one.note(f"the model runs without the compiler: {why}")
        self._one.effects -= self._call is not None
        self.undo()

    def undo(self) -> None:
        self._over = True
        self._news.end()
        if self._model._compiled_call_impl is self:  # noqa: SLF001
            self._model._compiled_call_impl = None  # noqa: SLF001

    def tell(self) -> None:
        """Say into how many graphs the model fell and why, how long it took, and when it paid."""
        news, one = self._news, self._one
        if self._call is None and self._over:
            return
        if self._call is None:
            one.note(f"the training ended before its pass {BEFORE + 1}, at which it is compiled")
            return
        if news.breaks() and one.effects:
            one.note(f"the graph broke {_times(news.breaks())}: {news.reasons()}")
        if news.graphs_skipped():
            one.note(f"CUDA graphs were left out {_times(news.graphs_skipped())}")
        count = news.graphs()
        made = f"{count} graph{'' if count == 1 else 's'} compiled in {news.seconds:.1f} s"
        one.note(made + (self._repaid() if one.effects else ""))

    def _repaid(self) -> str:
        if len(self._with) < FEWEST:
            return ""
        before, now = statistics.median(self._before), statistics.median(self._with)
        told = f"; from pass to pass {1e3 * now:.3g} ms instead of {1e3 * before:.3g}"
        if now >= before:
            return f"{told}: not repaid"
        return f"{told}: repaid after {self._news.seconds / (before - now):,.0f} passes"


def _apart(made: Any) -> Any:
    """Copy what a CUDA graph returned: the next pass writes over it."""
    import torch
    from torch.utils import _pytree

    return _pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, made)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
