"""Garbage collection that leaves alone what exists before the training begins."""

from __future__ import annotations

from speedprof.mitigations.rewrite import training
from speedprof.mitigations.rewrite.code import Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import in_module

THRESHOLD = "50_000"  # young objects between two collections, as at run time


def rewrite(code: Code, order: Order) -> None:  # noqa: ARG001 - as all rewritings
    """Freeze before the outermost loop, and collect less often from then on."""
    for call in code.calls("gc.freeze", "gc.disable", "gc.set_threshold"):
        if code.words(call.func).endswith("freeze"):
            return
        raise Refused(f"line {code.line(call)} decides on it itself: {code.words(call)}")
    loop = training.start(code)
    gc = in_module(code, "gc")
    code.before(
        loop,
        f"{gc}.collect()",
        f"{gc}.freeze()  # models, data sets and modules are not looked at again",
        f"{gc}.set_threshold({THRESHOLD}, *{gc}.get_threshold()[1:])",
    )
