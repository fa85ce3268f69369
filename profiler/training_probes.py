"""Backward passes, optimizer steps, and the model's change between training and evaluation."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any

from speedprof.profiler.patches import Patches

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]
now = time.perf_counter_ns


def install(session: Session, waiting: Waiting) -> None:
    del waiting
    _watch_backward(session)
    _watch_optimizers(session)
    _watch_scaler(session)
    _watch_evaluation(session)


def _watch_backward(session: Session) -> None:
    import torch

    compiling = torch.compiler.is_compiling
    begins = session.fence.guard("backward", lambda: _backward_begins(session))
    ends = session.fence.guard(
        "backward", lambda begin: session.tracker.backward_ends(begin, now())
    )
    original = torch.autograd.backward

    @functools.wraps(original)
    def backward(*arguments: Any, **keywords: Any) -> Any:
        if compiling():
            return original(*arguments, **keywords)
        begin = begins()
        try:
            return original(*arguments, **keywords)
        finally:
            if begin is not None:
                ends(begin)

    session.patches.replace(torch.autograd, "backward", backward, reason="time the backward pass")


def _backward_begins(session: Session) -> int | None:
    thread = get_ident()
    if thread != session.thread:
        if session.over or session.tracker.steps:
            return None
        session.thread = thread  # the script trains in a thread of its own
    begin = now()
    session.tracker.backward_begins(begin)
    if session.leaving:
        session.leave_if_due()
        return None
    return begin


def _watch_optimizers(session: Session) -> None:
    import torch
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    compiling = torch.compiler.is_compiling
    begins = session.fence.guard(
        "optimizer", lambda optimizer: _optimizer_begins(session, optimizer)
    )
    ends = session.fence.guard("optimizer", lambda optimizer: _optimizer_ends(session, optimizer))

    def before(optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        if not compiling():
            begins(optimizer)
            if session.stopping:
                session.stop_if_due()

    def after(optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        if not compiling():
            ends(optimizer)

    for handle, name in (
        (register_optimizer_step_pre_hook(before), "before"),
        (register_optimizer_step_post_hook(after), "after"),
    ):
        session.patches.hook(
            handle, "torch.optim.Optimizer.step", reason=f"see the moment {name} it"
        )


def _optimizer_begins(session: Session, optimizer: Any) -> None:
    if get_ident() != session.thread:
        if session.over or session.tracker.steps:
            return
        session.thread = get_ident()
    session.tracker.optimizer_begins(now(), id(optimizer))


def _optimizer_ends(session: Session, optimizer: Any) -> None:
    if get_ident() != session.thread:
        return
    end = now()
    session.clock.mark(end)
    session.tracker.optimizer_ends(end, id(optimizer))
    if not session.seen.knows(optimizer):
        session.open_record()
        session.seen.optimizer(optimizer, sys._getframe(3))


def _watch_scaler(session: Session) -> None:
    """See loops whose scaler leaves out an optimizer step because gradients overflowed."""
    from torch.amp import GradScaler

    begins = session.fence.guard("scaler", lambda optimizer: _optimizer_begins(session, optimizer))
    ends = session.fence.guard(
        "scaler", lambda optimizer: session.tracker.optimizer_ends(now(), id(optimizer))
    )
    original = GradScaler.step

    @functools.wraps(original)
    def step(scaler: Any, optimizer: Any, *arguments: Any, **keywords: Any) -> Any:
        if get_ident() != session.thread:
            return original(scaler, optimizer, *arguments, **keywords)
        begins(optimizer)
        if session.stopping:
            session.stop_if_due()
        try:
            return original(scaler, optimizer, *arguments, **keywords)
        finally:
            ends(optimizer)

    session.patches.replace(
        GradScaler, "step", step, reason="see steps that the scaler leaves out"
    )


def _watch_evaluation(session: Session) -> None:
    """See `model.eval()`, and `train()` only until it comes: loops may call that every step."""
    from torch.nn import Module

    temporary = Patches()
    original_eval = Module.eval

    def begin() -> None:
        if get_ident() != session.thread:
            return
        session.tracker.evaluation_begins(now())
        if session.tracker.evaluating and not temporary.texts():
            watch_train()

    def end() -> None:
        session.tracker.evaluation_ends(now())
        temporary.undo()

    begins, ends = session.fence.guard("evaluation", begin), session.fence.guard("evaluation", end)

    def watch_train() -> None:
        original = Module.train

        @functools.wraps(original)
        def train(module: Any, mode: bool = True) -> Any:
            if mode and get_ident() == session.thread:
                ends()
            return original(module, mode)

        temporary.replace(Module, "train", train, reason="see the end of the evaluation")

    @functools.wraps(original_eval)
    def evaluate(module: Any) -> Any:
        result = original_eval(module)
        begins()
        return result

    session.patches.replace(Module, "eval", evaluate, reason="tell evaluation from training")
    session.at_end.append(temporary.undo)
