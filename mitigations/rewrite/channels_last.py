"""Images and weights of convolutions stored channels last."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite import copies, models, training
from speedprof.mitigations.rewrite.code import Absent, Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import in_module

LAYOUT = "torch.channels_last"
IMAGES = 4  # dimensions


def rewrite(code: Code, order: Order) -> None:
    """Convert the model where it is built, and its images where it is called."""
    if not _has_convolutions(code, order):
        raise Absent("no Conv2d was seen in the model")
    for one in _converting(code):
        if code.condition(one) is None:
            return
        raise Refused(f"line {code.line(one)} does it already, under a condition")
    models.refuse_sharded(code)
    found = models.model(code)
    place = models.place(code, found)
    models.refuse_wrapped(code, found, place)
    layout = f"{in_module(code, 'torch')}.channels_last"
    place.write(code, f"{{model}} = {{model}}.to(memory_format={layout})")
    images = _images(code, order, found)
    if images is not None:
        code.edit(images, lambda argument: _converted(argument, layout))


def _has_convolutions(code: Code, order: Order) -> bool:
    if order.known.has_conv2d is not None:
        return order.known.has_conv2d
    return any("Conv2d" in one.value for one in code.all(cst.Name))


def _converting(code: Code) -> list[cst.CSTNode]:
    if "channels_last" not in code.source:
        return []
    attributes = (one for one in code.nodes if isinstance(one, (cst.Attribute, cst.Name)))
    return [one for one in attributes if LAYOUT in code.qualified(one)]


def _images(code: Code, order: Order, found: models.Model) -> cst.Arg | None:
    """Return the argument that is a batch of images, None where that is not sure.

    The first convolution converts what is not converted before.
    """
    dims = order.known.batch_dims
    if dims is None or dims.count(IMAGES) != 1:
        return None
    try:
        step = training.step(code)
        call = models.forward(code, step, found)
    except Refused:
        return None
    if len(call.args) != 1 or call.args[0].star:
        return None
    images = call.args[0].value
    is_batch = isinstance(images, cst.Name) and copies.is_as_loaded(code, step, images.value)
    return call.args[0] if is_batch else None


def _converted(argument: cst.Arg, layout: str) -> cst.Arg:
    template = cst.parse_expression(f"images.contiguous(memory_format={layout})")
    return argument.with_changes(
        value=template.with_deep_changes(template.func, value=argument.value)  # type: ignore[attr-defined]
    )
