"""Gradients dropped between updates instead of filled with zeros."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite.arguments import given, set_in
from speedprof.mitigations.rewrite.code import Absent, Code, Refused
from speedprof.mitigations.rewrite.order import Order


def rewrite(code: Code, order: Order) -> None:  # noqa: ARG001 - as all rewritings
    """Turn `zero_grad(set_to_none=False)` around."""
    calls = [call for call in code.all(cst.Call) if _attribute(call) == "zero_grad"]
    by_hand = [call for call in code.all(cst.Call) if code.words(call.func).endswith("grad.zero_")]
    if by_hand:
        raise Refused(f"line {code.line(by_hand[0])} fills gradients with zeros by hand")
    if not calls:
        raise Absent("no zero_grad() is called in this file")
    for call in calls:
        own = given(code, call, ("set_to_none",))
        text = code.words(own["set_to_none"].value) if "set_to_none" in own else "True"
        if text == "False":
            set_in(code, call, own, {"set_to_none": "True"})
        elif text != "True":
            raise Refused(f"line {code.line(call)} decides as it runs: set_to_none={text}")


def _attribute(call: cst.Call) -> str | None:
    return call.func.attr.value if isinstance(call.func, cst.Attribute) else None
