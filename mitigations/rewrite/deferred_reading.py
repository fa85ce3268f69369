"""Sums of losses and metrics kept on the device, and read where somebody looks at them.

`total += loss.item()` makes the host wait at every step. `total += loss.detach().double()` does
not, and gives the same digits: Python adds in double precision, too, and in the same order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import libcst as cst

from speedprof.mitigations.rewrite import training
from speedprof.mitigations.rewrite.code import Absent, Code, Function, Refused, inside
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.sum_uses import SUMMED, Sum, as_float, as_int, conditional, uses

Answer = TypeVar("Answer")
Loop = (cst.For, cst.While)
LINEAR = (cst.Add, cst.Subtract, cst.Multiply, cst.Divide)  # of numbers and tensors alike
COUNTED = ("eq", "ne", "lt", "le", "gt", "ge")
WITHOUT_DOUBLE = ("mps",)  # devices


def rewrite(code: Code, order: Order) -> None:
    """Sum on the device what is read at every step, where nothing else needs it there."""
    if order.known.device == "cpu":
        raise Refused("the training ran on the CPU, where nothing waits for a device")
    found = _reads(code)
    if not found:
        raise Absent("no .item() is called at every step of the training loop")
    sums: dict[str, list[Sum]] = {}
    refusals = []
    for read, loop in found:
        one = _answered(_sum_of, code, read, loop)
        if isinstance(one, Refused):
            refusals.append(str(one))
        elif all(known.line != one.line for known in sums.get(one.name, ())):
            sums.setdefault(one.name, []).append(one)
    for same in sums.values():
        read_at = _answered(uses, code, same)
        if isinstance(read_at, Refused):
            refusals.append(str(read_at))
        else:
            _write(code, same, read_at, double=order.known.device not in WITHOUT_DOUBLE)
    if not code.notes:
        raise Refused(refusals[0])
    code.notes += [f"still read at every step: {why}" for why in refusals]


def _answered(ask: Callable[..., Answer], *about: Any) -> Answer | Refused:
    """Return the answer, or why there is none: others may be written all the same."""
    try:
        return ask(*about)
    except Refused as refused:
        return refused


def _write(code: Code, same: list[Sum], read_at: list[cst.Name], *, double: bool) -> None:
    whole = same[0].whole
    for one in same:
        for read, value in one.reads.items():
            kept = value if whole else _kept_in_double(value) if double else _kept(value)
            code.edit(read, functools.partial(_in_place_of, kept))
    for name in read_at:
        code.edit(name, as_int if whole else as_float)
    digits = "" if whole or double else ", in float32: the last digits may differ"
    code.notes.append(f"{same[0].name} is summed on the device{digits}")


# -- what is read


def _reads(code: Code) -> list[tuple[cst.Call, cst.CSTNode]]:
    """Return each `.item()` that runs at every step, with the loop whose steps these are."""
    backwards = training.backwards(code)
    if not backwards:
        raise Absent("no loss.backward() is in this file; the loop is a library's, or elsewhere")
    loops = [loop for call in backwards for loop in _steps(code, call)]
    found = []
    for call in code.all(cst.Call):
        loop = next((one for one in _loops(code, call)), None)
        if _read(code, call) is not None and loop in loops and not conditional(code, call, loop):
            found.append((call, loop))
    return found


def _steps(code: Code, backward: cst.Call) -> list[cst.CSTNode]:
    """Return the loop around a backward pass, and the one of updates around that of passes."""
    found: list[cst.CSTNode] = []
    for loop in _loops(code, backward):
        found.append(loop)
        if any(_method(call) == "step" for call in code.all(cst.Call, loop)):
            break
    return found


def _loops(code: Code, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Return the loops around a node, within its function, from the inside out."""
    for outer in code.ancestors(node):
        if isinstance(outer, Function):
            return
        if isinstance(outer, Loop):
            yield outer


def _read(code: Code, node: cst.CSTNode) -> cst.BaseExpression | None:
    """Return what is read from the device by `x.item()`, by `float(loss)` or by `int(count)`."""
    if not isinstance(node, cst.Call):
        return None
    if isinstance(node.func, cst.Attribute):
        return node.func.value if node.func.attr.value == "item" and not node.args else None
    if len(node.args) != 1 or node.args[0].keyword is not None or node.args[0].star:
        return None
    value, by = node.args[0].value, code.words(node.func)
    known = (by == "int" and _is_counting(value)) or (
        by == "float" and code.words(value) in _losses(code)
    )
    return value if known else None


def _sum_of(code: Code, read: cst.Call, loop: cst.CSTNode) -> Sum:
    """Return the sum that a read goes into; Refused where it goes anywhere else."""
    line = code.line(read)
    added = next((o for o in code.ancestors(read) if isinstance(o, cst.BaseSmallStatement)), None)
    if not isinstance(added, cst.AugAssign) or not isinstance(added.operator, SUMMED):
        raise Refused(f"line {line} uses {code.words(read)} otherwise than in a sum")
    if not isinstance(added.target, cst.Name):
        raise Refused(f"line {line} sums in {code.words(added.target)}, which is no plain name")
    terms = list(_terms(code, added.value, line))
    reads = {cst.ensure_type(o, cst.Call): r for o in terms if (r := _read(code, o)) is not None}
    wholes = [_is_count(code, one, loop) for one in reads.values()]
    if not all(_is_count(code, o, loop) or _is_real(code, o) for o in reads.values()):
        raise Refused(f"whether {code.words(read)} in line {line} is a whole number is not seen")
    alone = len(terms) == len(reads) and not _divides(added.value)
    if any(wholes) and not (all(wholes) and alone):
        raise Refused(f"line {line} sums whole numbers and others")
    home = code.function(added)
    return Sum(added.target.value, line, loop, home, reads, whole=all(wholes))


def _terms(code: Code, value: cst.BaseExpression, line: int) -> Iterator[cst.BaseExpression]:
    """Return what a value is computed of by `+ - * /`; Refused where a read lies deeper."""
    if isinstance(value, cst.BinaryOperation) and isinstance(value.operator, LINEAR):
        yield from _terms(code, value.left, line)
        yield from _terms(code, value.right, line)
    elif isinstance(value, cst.UnaryOperation) and isinstance(value.operator, cst.Minus):
        yield from _terms(code, value.expression, line)
    else:
        deeper = any(_read(code, node) is not None for node in inside(value))
        if _read(code, value) is None and deeper:
            raise Refused(f"{code.words(value)} in line {line} needs its value at once")
        yield value


def _divides(value: cst.CSTNode) -> bool:
    return any(isinstance(node, cst.Divide) for node in inside(value))


def _losses(code: Code) -> set[str]:
    """Return what backward() is called on, as the source writes it."""
    trained = (call.func for call in training.backwards(code))
    return {code.words(one.value) for one in trained if isinstance(one, cst.Attribute)}


def _is_real(code: Code, value: cst.BaseExpression) -> bool:
    """Tell whether a tensor is a loss or a mean, and so no whole number."""
    words = code.words(value)
    mean = _method(value) == "mean" and ".float()" in words
    return mean or words in _losses(code) or "loss" in words.lower()


def _is_count(code: Code, value: cst.BaseExpression, loop: cst.CSTNode) -> bool:
    """Tell whether a value counts: the sum of a comparison, by a name or without."""
    if isinstance(value, cst.Name):
        assigned = [
            one.value
            for one in code.all(cst.Assign, loop)
            if [code.words(target.target) for target in one.targets] == [value.value]
        ]
        return bool(assigned) and all(_is_counting(one) for one in assigned)
    return _is_counting(value)


def _is_counting(value: cst.CSTNode) -> bool:
    if not isinstance(value, cst.Call) or _method(value) != "sum":
        return False
    function = cst.ensure_type(value.func, cst.Attribute)
    summed = value.args[0].value if value.args else function.value
    return isinstance(summed, cst.Comparison) or _method(summed) in COUNTED


def _method(node: cst.CSTNode) -> str | None:
    named = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)
    return node.func.attr.value if named else None  # type: ignore[attr-defined]


def _kept(value: cst.BaseExpression) -> cst.BaseExpression:
    """Return `loss.detach()`: the number without what made it."""
    return cst.Call(func=cst.Attribute(value=value, attr=cst.Name("detach")))


def _kept_in_double(value: cst.BaseExpression) -> cst.BaseExpression:
    return cst.Call(func=cst.Attribute(value=_kept(value), attr=cst.Name("double")))


def _in_place_of(kept: cst.BaseExpression, read: cst.Call) -> cst.CSTNode:
    """Return the new words in the parentheses that are around the old ones."""
    return kept.with_changes(lpar=(*read.lpar, *kept.lpar), rpar=(*kept.rpar, *read.rpar))
