"""Forward pass and loss in bfloat16 where torch's autocast finds that safe."""

from __future__ import annotations

from typing import Any

import libcst as cst

from speedprof.mitigations.rewrite import models, training
from speedprof.mitigations.rewrite.code import Code, Refused, body_of, inside
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import AUTOCAST, in_module

UNSAFE = ("torch.nn.BCELoss", "torch.nn.functional.binary_cross_entropy")
SCALERS = ("torch.cuda.amp.GradScaler", "torch.amp.GradScaler", "torch.GradScaler")
STAYING = ("contiguous", "float", "flatten", "view")  # methods that move nothing
ENDING = (cst.Return, cst.Break, cst.Continue, cst.Raise, cst.Del)


def rewrite(code: Code, order: Order) -> None:
    """Put the lines from the forward pass to the loss under autocast."""
    for call in code.calls(*AUTOCAST):
        if code.condition(call) is None and "enabled" not in code.words(call):
            return
        raise Refused(f"line {code.line(call)} has an autocast of its own, under a condition")
    for call in code.calls(*SCALERS):
        raise Refused(f"line {code.line(call)} scales gradients: it trains in float16 already")
    for call in code.calls(*UNSAFE):
        raise Refused(f"line {code.line(call)} computes a loss that autocast refuses; take "
                      "binary_cross_entropy_with_logits")  # fmt: skip
    step = training.step(code)
    _refuse_numpy(code, step)
    call = models.forward(code, step, models.model(code))
    first, last, block = _range(code, step, call)
    lines = [one for one in block.body if code.line(first) <= code.line(one) <= code.line(last)]
    device = _device(code, order, call)
    torch = in_module(code, "torch")
    head = f"with {torch}.autocast({device}, dtype={torch}.bfloat16):\n    pass\n"
    code.edit(block, lambda updated: _wrapped(updated, block, lines, head))


def _refuse_numpy(code: Code, step: cst.CSTNode) -> None:
    """Refuse a step that would hand bfloat16 to NumPy, which has no such type."""
    for call in code.all(cst.Call, step):
        words = code.words(call)
        if words.endswith(".numpy()") and ".float()" not in words:
            raise Refused(
                f"line {code.line(call)} hands a tensor to NumPy, which has no bfloat16; write "
                ".float() before"
            )


def _range(
    code: Code, step: cst.CSTNode, call: cst.Call
) -> tuple[cst.BaseStatement, cst.BaseStatement, Any]:
    """Return the line of the forward pass, that of the loss, and the block of both."""
    first = code.statement(call)
    block = code.parent(first)
    if not isinstance(first, cst.SimpleStatementLine) or not hasattr(block, "body"):
        raise Refused(f"line {code.line(call)} calls the model in a condition or a loop's head")
    last = _loss(code, step, first)
    if code.parent(last) is not block:
        raise Refused(f"the loss in line {code.line(last)} stands in another block")
    for one in body_of(block):
        if code.line(first) <= code.line(one) <= code.line(last):
            _check(code, one)
    return first, last, block


def _loss(
    code: Code, step: cst.CSTNode, first: cst.SimpleStatementLine
) -> cst.SimpleStatementLine:
    """Return the line that makes what `backward()` is called on; the forward's, if it is that."""
    backward = next(c for c in training.backwards(code) if c in list(inside(step)))
    wanted = {one.value for one in inside(backward) if isinstance(one, cst.Name)}
    found = first
    for assign in code.all(cst.Assign, step):
        line = code.statement(assign)
        names = {code.words(one.target) for one in assign.targets}
        is_between = code.line(first) <= code.line(line) < code.line(backward)
        if names & wanted and is_between and isinstance(line, cst.SimpleStatementLine):
            found = line
    return found


def _check(code: Code, one: cst.BaseStatement) -> None:
    if not isinstance(one, cst.SimpleStatementLine):
        raise Refused(f"line {code.line(one)} stands between the forward pass and the loss")
    words = code.words(one)
    if any(isinstance(small, ENDING) for small in one.body) or ".backward(" in words:
        raise Refused(f"line {code.line(one)} does the forward and the backward pass in one")
    if ".step(" in words:
        raise Refused(f"line {code.line(one)} updates between the forward pass and the loss")


def _device(code: Code, order: Order, call: cst.Call) -> str:
    if order.known.device is not None:
        return f'"{order.known.device}"'
    images = call.args[0].value if call.args else None
    while isinstance(images, cst.Call) and _keeps_device(images):
        images = cst.ensure_type(images.func, cst.Attribute).value
    if images is None or not models.is_dotted(images):
        raise Refused("the device of the forward pass is not known")
    return f"{code.words(images)}.device.type"


def _keeps_device(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Attribute) and call.func.attr.value in STAYING


def _wrapped(updated: Any, original: Any, lines: list[Any], head: str) -> Any:
    places = [place for place, one in enumerate(original.body) if one in lines]
    inner = list(updated.body)[places[0] : places[-1] + 1]
    block = cst.parse_statement(head)
    assert isinstance(block, cst.With)
    leading = inner[0].leading_lines
    inner[0] = inner[0].with_changes(leading_lines=())
    block = block.with_changes(leading_lines=leading, body=block.body.with_changes(body=inner))
    return updated.with_changes(
        body=[*updated.body[: places[0]], block, *updated.body[places[-1] + 1 :]]
    )
