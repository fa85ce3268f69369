"""Remedies written into a source, one after the other, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import libcst as cst

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.rewrite import (
    apply_call,
    autocast,
    channels_last,
    compile_model,
    copies,
    ddp_arguments,
    deferred_reading,
    flags,
    fused_optimizer,
    garbage,
    loader_arguments,
    trainer_arguments,
    zero_grad,
)
from speedprof.mitigations.rewrite.code import Absent, Code, Refused
from speedprof.mitigations.rewrite.loaders import at_line
from speedprof.mitigations.rewrite.order import REFUSED, UNCHANGED, WRITTEN, Order, Outcome
from speedprof.mitigations.rewrite.trainer_arguments import takes

Rewriting = Callable[[Code, Order], None]

REWRITINGS: dict[str, Rewriting] = {  # in the order in which they are made
    "loader-workers": loader_arguments.rewrite,
    "in-process-loading": loader_arguments.rewrite,
    "persistent-workers": loader_arguments.rewrite,
    "deeper-prefetch": loader_arguments.rewrite,
    "pin-memory": loader_arguments.rewrite,
    "non-blocking-copies": copies.rewrite,
    "fused-optimizer": fused_optimizer.rewrite,
    "set-to-none": zero_grad.rewrite,
    "deferred-reading": deferred_reading.rewrite,
    "ddp-buckets": ddp_arguments.rewrite,
    "channels-last": channels_last.rewrite,
    "compile-model": compile_model.rewrite,
    "bf16-autocast": autocast.rewrite,
    "collect-garbage-less": garbage.rewrite,
    "tf32": flags.precision,
    "cudnn-benchmark": flags.benchmark,
    "fewer-threads": flags.threads,
}
# all others that can be put in force: by a call at the top, where they are asked for by name
BY_CALL = tuple(name for name in AUTOMATIC if name not in REWRITINGS)
LOADING = tuple(n for n, how in REWRITINGS.items() if how is loader_arguments.rewrite)
ONCE = ("tf32", "cudnn-benchmark", "fewer-threads", *BY_CALL)  # in the script itself, nowhere else
WITH_LOADER = (*LOADING, "non-blocking-copies")


def rewrite(source: str, orders: Sequence[Order]) -> tuple[str, list[Outcome]]:
    """Return the source with the remedies in it, and what came of each, in the given order."""
    try:
        code = Code(source)
    except cst.ParserSyntaxError as error:
        return source, _none(orders, f"line {error.raw_line} cannot be read as Python")
    except RecursionError:
        return source, _none(orders, "its expressions are nested too deeply")
    if code.module.code != source:
        return source, _none(orders, "its text cannot be kept; please report this as a bug")
    places = {one.known.loader_line: _place(code, one) for one in orders}
    outcomes: dict[str, Outcome] = {}
    names = [*REWRITINGS, *BY_CALL]
    known = [one for one in orders if one.name in names]
    for order in sorted(known, key=lambda one: names.index(one.name)):
        place = places[order.known.loader_line]
        with_loader = order.name in WITH_LOADER and not order.by_call and not takes(order)
        if isinstance(place, Refused) and with_loader:
            outcomes[order.name] = Outcome(name=order.name, state=REFUSED, why=str(place))
            continue
        call = None if isinstance(place, Refused) else place
        changed, outcomes[order.name] = _written(code, source, replace(order, call=call))
        if changed != source:
            source, code = changed, Code(changed)
    return source, [outcomes.get(one.name) or _unknown(one) for one in orders]


def _none(orders: Sequence[Order], why: str) -> list[Outcome]:
    return [Outcome(name=one.name, state=REFUSED, why=why) for one in orders]


def _place(code: Code, order: Order) -> int | Refused | None:
    """Return which DataLoader is meant, before lines are added above it."""
    if order.known.loader_line is None:
        return None
    try:
        return at_line(code, order.known.loader_line)
    except Refused as refused:
        return refused


def _written(code: Code, source: str, order: Order) -> tuple[str, Outcome]:
    code.forget()
    try:
        _how(order)(code, order)
    except Refused as refused:
        absent = isinstance(refused, Absent)
        return source, Outcome(name=order.name, state=REFUSED, why=str(refused), absent=absent)
    changed = code.text()
    if changed == source:
        return source, Outcome(name=order.name, state=UNCHANGED, why="the source does so already")
    fault = _fault(source, changed)
    if fault is not None:
        why = f"it would not be Python any more ({fault}); please report this as a bug"
        return source, Outcome(name=order.name, state=REFUSED, why=why)
    return changed, Outcome(name=order.name, state=WRITTEN, why="; ".join(code.notes))


def _how(order: Order) -> Rewriting:
    if order.by_call:
        return apply_call.rewrite
    if takes(order):
        return trainer_arguments.rewrite
    return REWRITINGS.get(order.name, apply_call.rewrite)


def _fault(source: str, changed: str) -> str | None:
    """Return what is wrong with the new source, None where it is as good as the old one.

    A training may run on a newer Python than this one: then libcst's reading has to do.
    """
    try:
        compile(source, "<source>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    try:
        compile(changed, "<source>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.msg
    return None


def _unknown(order: Order) -> Outcome:
    why = f"it is not written into a source; `speedprof run --apply {order.name}` applies it"
    return Outcome(name=order.name, state=REFUSED, why=why)
