"""The model compiled where it is built."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite import models
from speedprof.mitigations.rewrite.code import Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import COMPILE


def rewrite(code: Code, order: Order) -> None:
    """Compile the model in place.

    `model.compile()` and not `model = torch.compile(model)`: names in checkpoints, `isinstance`
    and every other reference to the model stay as they are.
    """
    found = models.model(code)
    for one in _compiling(code, found):
        if code.condition(one) is None:
            return
        raise Refused(f"line {code.line(one)} compiles it already, under a condition")
    models.refuse_sharded(code)
    for method in code.all(cst.FunctionDef):
        around = list(code.ancestors(method))[:2]  # its block, and what that is of
        if method.name.value == "compile" and isinstance(around[-1], cst.ClassDef):
            raise Refused(f"line {code.line(method)} defines a compile() of the model's own")
    mode = order.parameters.get("mode", "default")
    argument = "" if mode == "default" else f'mode="{mode}"'
    models.place(code, found).write(code, f"{{model}}.compile({argument})")


def _compiling(code: Code, found: models.Model) -> list[cst.CSTNode]:
    if "compile" not in code.source:
        return []
    named = [
        one
        for one in code.nodes
        if isinstance(one, (cst.Name, cst.Attribute)) and code.qualified(one) & set(COMPILE)
    ]
    return [*named, *(call for call in code.all(cst.Call) if _in_place(code, call, found))]


def _in_place(code: Code, call: cst.Call, found: models.Model) -> bool:
    function = call.func
    if not isinstance(function, cst.Attribute) or function.attr.value != "compile":
        return False
    return models.is_dotted(function.value) and models.is_meant(code, function.value, found)
