"""Optimizers built with `fused=True`."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite.arguments import Given, given, set_in
from speedprof.mitigations.rewrite.code import Absent, Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import FUSED

# of all four the leading parameters have these names, and `fused` is no positional one
POSITIONAL = ("params", "lr", "third", "fourth", "fifth", "sixth")
OTHERWISE = ("foreach", "differentiable", "capturable")  # the script has chosen another way


def rewrite(code: Code, order: Order) -> None:  # noqa: ARG001 - as all rewritings
    """Ask each of torch's own optimizers for its fused update."""
    calls = code.calls(*FUSED)
    if not calls:
        raise Absent("no Adam, AdamW, SGD or Adagrad of torch's is built in this file")
    for one in code.all(cst.Arg):
        is_sparse = one.keyword is not None and one.keyword.value == "sparse"
        if is_sparse and code.words(one.value) != "False":
            raise Refused(f"line {code.line(one)} asks for sparse gradients")
    for call in calls:
        own = given(code, call, POSITIONAL)
        for name in OTHERWISE:
            if name in own and code.words(own[name].value) not in ("False", "None"):
                raise Refused(f"line {code.line(call)} asks for {name}={_text(code, own, name)}")
        if "fused" not in own:
            set_in(code, call, own, {"fused": "True"})
        elif _text(code, own, "fused") != "True":
            raise Refused(f"line {code.line(call)} gives fused={_text(code, own, 'fused')} itself")


def _text(code: Code, own: dict[str, Given], name: str) -> str:
    return code.words(own[name].value)
