"""Backward passes, optimizer steps, and the model's change between training and evaluation."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from speedprof.profiler.patches import Patches
from speedprof.profiler.steps import Tracker

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

    compiling, journal = torch.compiler.is_compiling, session.journal
    write = journal.write
    leave = session.fence.guard("leave", session.leave_if_due)
    trains = session.fence.guard("windows", lambda frame: session.windows.trains(frame))
    original = torch.autograd.backward

    @functools.wraps(original)
    def backward(*arguments: Any, **keywords: Any) -> Any:
        if compiling() or (get_ident() != session.thread and not _follow(session)):
            return original(*arguments, **keywords)
        begin = now()
        write(Tracker.backward_begins, begin)
        if session.leaving:
            leave()
            return original(*arguments, **keywords)
        if not journal.room and session.windows.is_open:
            trains(sys._getframe(1))
        look = session.seen.backward.look
        if look is not None:
            look(arguments[0] if arguments else keywords.get("tensors"))
        try:
            return original(*arguments, **keywords)
        finally:
            write(Tracker.backward_ends, begin, now())

    session.patches.replace(torch.autograd, "backward", backward, reason="time the backward pass")


def _follow(session: Session) -> bool:
    """Follow the training into this thread, where nobody else has trained so far."""
    if session.over:
        return False
    session.catch_up()
    if session.tracker.steps:
        return False
    session.thread = get_ident()
    return True


def _watch_optimizers(session: Session) -> None:
    import torch
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    compiling, write = torch.compiler.is_compiling, session.journal.write
    mark = session.fence.guard("device clock", lambda moment: session.clock.mark(moment))
    describe = session.fence.guard("optimizer", lambda *seen: _describe(session, *seen))

    def before(optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        if compiling() or (get_ident() != session.thread and not _follow(session)):
            return
        write(Tracker.optimizer_begins, now(), id(optimizer))
        if session.stopping:
            session.stop_if_due()

    def after(optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        if compiling() or get_ident() != session.thread:
            return
        end = now()
        if session.clock.possible:
            mark(end)
        write(Tracker.optimizer_ends, end, id(optimizer))
        if not session.seen.knows(optimizer):
            describe(optimizer, sys._getframe(1))

    for handle, name in (
        (register_optimizer_step_pre_hook(before), "before"),
        (register_optimizer_step_post_hook(after), "after"),
    ):
        session.patches.hook(
            handle, "torch.optim.Optimizer.step", reason=f"see the moment {name} it"
        )


def _describe(session: Session, optimizer: Any, frame: FrameType) -> None:
    session.open_record()
    session.seen.optimizer(optimizer, frame)


def _watch_scaler(session: Session) -> None:
    """See loops whose scaler leaves out an optimizer step because gradients overflowed."""
    from torch.amp import GradScaler

    write = session.journal.write
    original = GradScaler.step

    @functools.wraps(original)
    def step(scaler: Any, optimizer: Any, *arguments: Any, **keywords: Any) -> Any:
        if get_ident() != session.thread:
            return original(scaler, optimizer, *arguments, **keywords)
        write(Tracker.optimizer_begins, now(), id(optimizer))
        if session.stopping:
            session.stop_if_due()
        try:
            return original(scaler, optimizer, *arguments, **keywords)
        finally:
            write(Tracker.optimizer_ends, now(), id(optimizer))

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
        session.catch_up()
        session.tracker.evaluation_begins(now())
        if session.tracker.evaluating and not temporary.texts():
            watch_train()

    def end() -> None:
        session.catch_up()
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
