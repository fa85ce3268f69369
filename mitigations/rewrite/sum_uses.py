"""A number that a training loop sums up: where its value is needed, and how it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import libcst as cst

from speedprof.mitigations.rewrite.code import Code, Refused, inside
from speedprof.mitigations.rewrite.torch_names import assigned_names

SUMMED = (cst.AddAssign,)
SCALED = (cst.AddAssign, cst.SubtractAssign, cst.MultiplyAssign, cst.DivideAssign)
BINDING = (cst.For, cst.CompFor, cst.NamedExpr)  # what gives their targets a value


@dataclass(frozen=True, slots=True)
class Sum:
    """One `total += loss.item()` of the training loop."""

    name: str
    line: int
    loop: cst.CSTNode
    home: cst.CSTNode  # the function, or the module
    reads: Mapping[cst.Call, cst.BaseExpression]  # and what each of them reads
    whole: bool  # it counts, and stays a whole number


def conditional(code: Code, node: cst.CSTNode, loop: cst.CSTNode) -> bool:
    """Tell whether an `if` of the loop decides whether a node is reached."""
    inner = node
    for outer in code.ancestors(node):
        if isinstance(outer, cst.If) and inner is not outer.test:
            return True
        if outer is loop:
            return False
        inner = outer
    return False


def uses(code: Code, same: list[Sum]) -> list[cst.Name]:
    """Return where the sum's value is needed; Refused where that is at every step, or unclear."""
    one = same[0]
    if len({id(each.home) for each in same}) > 1 or len({each.whole for each in same}) > 1:
        raise Refused(f"{one.name} means several sums")
    if {"float", "int"} & assigned_names(code):
        raise Refused("the file uses the name float or int for something else")
    _refuse_shared(code, one)
    kinds = SUMMED if one.whole else SCALED
    found = []
    for name in code.all(cst.Name, one.home):
        if name.value != one.name or code.function(name) is not one.home:
            continue
        use = _use(code, name, kinds)
        if use is None:
            continue
        _refuse_at_every_step(code, use, same)
        if not _is_converted(code, use):
            found.append(use)
    return found


def _use(code: Code, name: cst.Name, kinds: tuple[type[cst.BaseAugOp], ...]) -> cst.Name | None:
    """Return a name that is read, None where it is written or means something else."""
    parent = code.parent(name)
    if _names_no_variable(code, name) or _is_assigned(code, name):
        return None
    if isinstance(parent, cst.AugAssign) and parent.target is name:
        if isinstance(parent.operator, kinds):
            return None
        raise Refused(f"line {code.line(name)} changes {name.value} otherwise than by adding")
    if isinstance(parent, (cst.Param, cst.NameItem, cst.Del, cst.AsName, *BINDING)):
        if isinstance(parent, BINDING) and parent.target is not name:
            return name
        raise Refused(f"line {code.line(name)} gives {name.value} a value that is not seen")
    return name


def _is_assigned(code: Code, name: cst.Name) -> bool:
    """Tell whether a name is given a value, alone or as one of `a, b = 0.0, 0`."""
    parent = code.parent(name)
    if isinstance(parent, (cst.AssignTarget, cst.AnnAssign)):
        return parent.target is name
    return isinstance(parent, cst.Element) and _is_unpacked(code, parent)


def _is_unpacked(code: Code, element: cst.CSTNode) -> bool:
    for outer in code.ancestors(element):
        if isinstance(outer, cst.AssignTarget):
            return True
        if not isinstance(outer, (cst.Tuple, cst.List, cst.Element)):
            return False
    return False


def _refuse_at_every_step(code: Code, use: cst.Name, same: list[Sum]) -> None:
    line = code.line(use)
    around = list(code.ancestors(use))
    if any(isinstance(outer, cst.Lambda) for outer in around):
        raise Refused(f"{use.value} is read in a function in line {line}")
    if any(isinstance(o, cst.FormattedStringExpression) and o.equal is not None for o in around):
        raise Refused(f"line {line} prints the name {use.value} with its value")
    for one in same:
        if one.loop in around and not conditional(code, use, one.loop):
            raise Refused(f"{use.value} is read at every step in line {line}")


def _refuse_shared(code: Code, one: Sum) -> None:
    """Refuse a name that other functions see."""
    for shared in code.all(cst.NameItem):
        if shared.name.value == one.name:
            raise Refused(f"line {code.line(shared)} shares {one.name} between functions")
    own: dict[cst.CSTNode, bool] = {}
    for name in code.all(cst.Name, one.home):
        function = code.function(name)
        if name.value != one.name or function is one.home or _names_no_variable(code, name):
            continue
        if function not in own:
            own[function] = _binds(code, function, one.name)
        if not own[function]:
            raise Refused(f"{one.name} is read in a function in line {code.line(name)}")


def _names_no_variable(code: Code, name: cst.Name) -> bool:
    parent = code.parent(name)
    attribute = isinstance(parent, cst.Attribute) and parent.attr is name
    return attribute or (isinstance(parent, cst.Arg) and parent.keyword is name)


def _binds(code: Code, function: cst.CSTNode, name: str) -> bool:
    """Tell whether a name is a function's own."""
    for node in inside(function):
        if isinstance(node, cst.Param) and node.name.value == name:
            return True
        if isinstance(node, cst.AssignTarget) and name in {
            one.value for one in inside(node.target) if isinstance(one, cst.Name)
        }:
            return code.function(node) is function
    return False


def _is_converted(code: Code, use: cst.Name) -> bool:
    """Tell whether the source reads the value by `float(total)` itself."""
    call = code.parent(code.parent(use))
    converts = isinstance(call, cst.Call) and code.words(call.func) in ("float", "int")
    return converts and len(call.args) == 1  # type: ignore[attr-defined]


def as_float(name: cst.Name) -> cst.Call:
    return _converted(name, "float")


def as_int(name: cst.Name) -> cst.Call:
    return _converted(name, "int")


def _converted(name: cst.Name, kind: str) -> cst.Call:
    inner = cst.Arg(name.with_changes(lpar=(), rpar=()))
    return cst.Call(func=cst.Name(kind), args=[inner], lpar=name.lpar, rpar=name.rpar)
