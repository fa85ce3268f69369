"""The training loop of a source, where it can be recognised."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite.code import Absent, Code, Function, Refused

Loop = (cst.For, cst.While)
DEEPEST = 5  # calls from the one that builds the model to the one that trains it


def step(code: Code) -> cst.CSTNode:
    """Return the loop or function with the one backward pass; Refused where unclear."""
    found = [_around(code, call) for call in backwards(code)]
    if not found:
        raise Absent("no loss.backward() is in this file; the loop is a library's, or elsewhere")
    if any(one is not found[0] for one in found):
        lines = ", ".join(str(code.line(call)) for call in backwards(code))
        raise Refused(f"there are several backward passes (lines {lines})")
    return found[0]


def backwards(code: Code) -> list[cst.Call]:
    return [
        call
        for call in code.all(cst.Call)
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "backward"
    ]


def _around(code: Code, node: cst.CSTNode) -> cst.CSTNode:
    for outer in code.ancestors(node):
        if isinstance(outer, (*Loop, *Function, cst.Module)):
            return outer
    return code.module


def start(code: Code) -> cst.BaseStatement:
    """Return the outermost loop of the training: what stands before it runs once."""
    node, outermost = step(code), None
    for _ in range(DEEPEST):
        loop = _outermost_loop(code, node)
        outermost = loop or outermost
        function = node if isinstance(node, cst.FunctionDef) else code.function(node)
        calling = callers(code, function)
        if len(calling) != 1:
            break
        node = calling[0]
    if outermost is None:
        raise Refused("the training loop was not found")
    return outermost


def _outermost_loop(code: Code, node: cst.CSTNode) -> cst.BaseStatement | None:
    found = None
    for outer in (node, *code.ancestors(node)):
        if isinstance(outer, Function):
            return found
        if isinstance(outer, (cst.For, cst.While)):
            found = outer
    return found


def callers(code: Code, function: cst.CSTNode) -> list[cst.Call]:
    if not isinstance(function, cst.FunctionDef):
        return []
    name = function.name.value
    return [
        call
        for call in code.all(cst.Call)
        if isinstance(call.func, cst.Name) and call.func.value == name
    ]
