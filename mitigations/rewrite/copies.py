"""Batches copied to the device without waiting for the copy."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite import training
from speedprof.mitigations.rewrite.arguments import given, set_in
from speedprof.mitigations.rewrite.code import Code, Refused, inside
from speedprof.mitigations.rewrite.loaders import loaders
from speedprof.mitigations.rewrite.order import Order

MOVING = {"to": ("device", "dtype", "non_blocking"), "cuda": ("device", "non_blocking")}


def rewrite(code: Code, order: Order) -> None:
    """Copy the batches of a loader that pins them with `non_blocking=True`."""
    if order.known.device == "cpu":
        raise Refused("the training ran on the CPU, where nothing is copied")
    if not order.known.pinned and not _pins(code, order):
        raise Refused("the loader does not pin its batches; take pin-memory, too")
    calls = _copies(code, order)
    if not calls:
        raise Refused("no .to(device) or .cuda() of a batch was recognised in the training loop")
    unblock(code, calls)


def unblock_if_clear(code: Code, order: Order) -> None:
    """Do the same for a loader that is about to be pinned, where the copies are recognised."""
    try:
        calls = _copies(code, order)
    except Refused:
        return
    unblock(code, calls)


def is_as_loaded(code: Code, loop: cst.CSTNode, name: str) -> bool:
    """Tell whether a name is a tensor of the batch that was moved at most, in no other shape."""
    try:
        whole, parts = batches(code, loop)
    except Refused:
        return False
    if name not in whole | parts:
        return False
    for assign in code.all(cst.Assign, loop):
        if not any(name in _names(one.target) for one in assign.targets):
            continue
        value = assign.value
        if not isinstance(value, cst.Call) or _method(value) not in MOVING:
            return False
        if code.words(cst.ensure_type(value.func, cst.Attribute).value) != name:
            return False
    return True


def unblock(code: Code, calls: list[cst.Call]) -> None:
    for call in calls:
        own = given(code, call, MOVING[_method(call)])
        if "non_blocking" not in own:
            set_in(code, call, own, {"non_blocking": "True"}, spread=False)


def _pins(code: Code, order: Order) -> bool:
    """Tell whether the source has the training loader pin."""
    return all(
        any(
            one.keyword is not None
            and one.keyword.value == "pin_memory"
            and code.words(one.value) == "True"
            for one in call.args
        )
        for call in loaders(code, order)
    )


def _copies(code: Code, order: Order) -> list[cst.Call]:
    """Return the calls that copy a batch; Refused where they go to several devices."""
    loop = training.step(code)
    whole, parts = batches(code, loop)
    if order.known.batch_dims is not None and len(order.known.batch_dims) == 1:
        parts |= whole  # a batch that is one tensor
    found = [
        call
        for call in code.all(cst.Call, loop)
        if _method(call) in MOVING and _is_part(code, call, whole, parts)
    ]
    found = [call for call in found if not _is_to_host(code, call)]
    devices = {code.words(device) for call in found if (device := _device(call)) is not None}
    if len(devices) > 1:
        raise Refused(f"batches are copied to several places ({', '.join(sorted(devices))})")
    return found


def _device(call: cst.Call) -> cst.BaseExpression | None:
    first = call.args[0] if call.args else None
    named = first is not None and (first.keyword is None or first.keyword.value == "device")
    return first.value if first is not None and named else None


def batches(code: Code, loop: cst.CSTNode) -> tuple[set[str], set[str]]:
    """Return the names of whole batches, and of what is known to be a part of one."""
    if not isinstance(loop, cst.For):
        raise Refused("the loop that calls backward() does not go over a DataLoader")
    target: cst.BaseExpression = loop.target
    if isinstance(loop.iter, cst.Call) and code.words(loop.iter.func) == "enumerate":
        if not isinstance(target, cst.Tuple) or len(target.elements) != 2:
            raise Refused(f"line {code.line(loop)} enumerates in a way that is not understood")
        target = target.elements[1].value
    whole, parts = set[str](), set[str]()
    if isinstance(target, cst.Name):
        whole.add(target.value)
    parts |= _unpacked(target)
    for node in inside(loop.body):
        if isinstance(node, cst.CompFor) and code.words(node.iter).split(".")[0] in whole:
            parts |= _names(node.target)
        if isinstance(node, cst.Assign) and code.words(node.value) in whole:
            for one in node.targets:
                parts |= _unpacked(one.target)
    return whole, parts


def _unpacked(target: cst.BaseExpression) -> set[str]:
    return _names(target) if isinstance(target, (cst.Tuple, cst.List)) else set()


def _names(target: cst.BaseExpression) -> set[str]:
    if isinstance(target, (cst.Tuple, cst.List)):
        return {name for one in target.elements for name in _names(one.value)}
    return {target.value} if isinstance(target, cst.Name) else set()


def _is_part(code: Code, call: cst.Call, whole: set[str], parts: set[str]) -> bool:
    """Tell whether `.to` is called on a part of a batch: a name, `batch[0]` or `batch.image`."""
    assert isinstance(call.func, cst.Attribute)
    moved = call.func.value
    if isinstance(moved, cst.Name):
        return moved.value in parts
    if isinstance(moved, (cst.Subscript, cst.Attribute)):
        return code.words(moved.value) in whole | parts
    return False


def _is_to_host(code: Code, call: cst.Call) -> bool:
    return any("cpu" in code.words(argument.value) for argument in call.args)


def _method(call: cst.Call) -> str:
    return call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
