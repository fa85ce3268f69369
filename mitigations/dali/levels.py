"""Operations on the levels of images of bytes, as Pillow's ImageOps and ImageEnhance do them.

Pillow cuts off what follows the point where it blends, and so do these: but for the last digit of
a float, the levels are the same. What is looked up in a histogram is the same within a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from speedprof.mitigations.dali import draws
from speedprof.mitigations.dali.choices import ON, some
from speedprof.mitigations.dali.graph import Graph, grey
from speedprof.mitigations.dali.steps import Arguments, Step

TOP = 255
NEARLY = 1e-3  # of a level: what a float of 24 bits is off, before it is cut off
SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))  # over their sum: Pillow's SMOOTH
HW: dict[str, Any] = {"axis_names": "HW", "keep_dims": True}


@dataclass(frozen=True)
class RandomLevels(Step):
    """One operation with one strength, with a probability."""

    operation: str  # one of OPERATIONS
    strength: float
    probability: float
    told: ClassVar[str] = "arithmetic on bytes, of a split of the batch"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        import torch

        chosen = draws.chance(random, len(sizes), self.probability).bool()
        strength = torch.full((len(sizes),), self.strength, dtype=torch.float64)
        return {ON: chosen, **arguments(self.operation, strength, sizes)}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        some(graph, given, OPERATIONS[self.operation])


def arguments(operation: str, strength: Any, sizes: Any) -> Arguments:
    """Return what an operation needs to know of each image.

    `strength` is what torchvision calls magnitude, threshold, bits or factor, one an image.
    """
    import torch

    if operation == "posterize":
        lost = 8 - strength.int().clamp(0, 8)
        return {"mask": (TOP - (2**lost - 1)).to(torch.uint8)}
    if operation == "solarize":
        return {"threshold": strength.float()}
    if operation == "sharpen":
        kernel = torch.tensor(SMOOTH)
        return {
            "factor": strength.float(),
            "kernel": (kernel / kernel.sum()).expand(len(sizes), 3, 3),
            "inner": (sizes - 2).clamp(min=1).int(),
            "whole": sizes.int(),
        }
    return {}


def posterize(graph: Graph, given: Arguments) -> None:
    graph.set(graph.upright() & graph.beside(given["mask"]))


def solarize(graph: Graph, given: Arguments) -> None:
    """Turn what is not below the threshold over; of all with a threshold of 0: invert."""
    image = graph.upright()
    kept = image < graph.beside(given["threshold"])
    graph.set(kept * image + (kept ^ True) * _turned_over(image))


def stretch(graph: Graph, _given: Arguments) -> None:
    """Spread each channel from its least and most to 0 and 255: autocontrast."""
    from nvidia.dali import fn, types

    image = fn.cast(graph.upright(), dtype=types.FLOAT)
    least, most = fn.reductions.min(image, **HW), fn.reductions.max(image, **HW)
    flat = fn.cast(most == least, dtype=types.FLOAT)
    scale = float(TOP) / (most - least + flat * float(TOP))
    cut_off(graph, (image - least * (1.0 - flat)) * scale + NEARLY)


def equalize(graph: Graph, _given: Arguments) -> None:
    """Spread each channel so that every level comes as often, by Pillow's own formula.

    Pillow's level for v is (pixels below v + step // 2) // step, with step = (pixels below the
    highest level) // 255. DALI's operator, OpenCV's, counts the pixels up to v in place of those
    below. Turned over, it counts those from v on, which is the rest. Pillow leaves an image alone
    whose step is 0.
    """
    from nvidia.dali import fn, math, types

    image = graph.upright()
    highest = fn.reductions.max(image, **HW)
    others = fn.cast(image != highest, dtype=types.FLOAT)
    below = fn.reductions.sum(others, **HW)
    step = math.floor(below * (1.0 / TOP) + NEARLY / TOP)
    some_step = fn.cast(step > 0.5, dtype=types.FLOAT)
    divisor = math.max(step, 1.0)
    even = fn.cast(_turned_over(_operator("equalize")(_turned_over(image))), dtype=types.FLOAT)
    half = math.floor(divisor * 0.5)
    wanted = math.floor((even * (below * (1.0 / TOP)) + half) / divisor + NEARLY)
    kept = fn.cast(image, dtype=types.FLOAT)
    cut_off(graph, some_step * wanted + (1.0 - some_step) * kept)


def sharpen(graph: Graph, given: Arguments) -> None:
    """Mix with the smoothed image, whose outermost pixels are the image's own."""
    from nvidia.dali import fn, math, types

    image = fn.cast(graph.upright(), dtype=types.FLOAT)
    smooth = math.floor(_operator("filter")(image, graph.beside(given["kernel"])) + 0.5)
    inside = fn.slice(smooth - image, start=[1, 1], shape=given["inner"], axes=[0, 1])
    around: dict[str, Any] = {"out_of_bounds_policy": "pad", "fill_values": 0.0}
    change = fn.slice(inside, start=[-1, -1], shape=given["whole"], axes=[0, 1], **around)
    _blend(graph, image, image + change, graph.beside(given["factor"]))


def brighten(graph: Graph, given: Arguments) -> None:
    from nvidia.dali import fn, types

    image = fn.cast(graph.upright(), dtype=types.FLOAT)
    _blend(graph, image, image * 0.0, graph.beside(given["factor"]))


def saturate(graph: Graph, given: Arguments) -> None:
    image, shade = _with_grey(graph)
    _blend(graph, image, shade, graph.beside(given["factor"]))


def contrast(graph: Graph, given: Arguments) -> None:
    from nvidia.dali import fn, math

    image, shade = _with_grey(graph)
    middle = math.floor(fn.reductions.mean(shade, axes=[0, 1], keep_dims=True) + 0.5)
    _blend(graph, image, middle, graph.beside(given["factor"]))


OPERATIONS = {
    "posterize": posterize,
    "solarize": solarize,
    "stretch": stretch,
    "equalize": equalize,
    "sharpen": sharpen,
}


def cut_off(graph: Graph, levels: Any) -> None:
    """Make these floats the image: clipped, and without what follows the point."""
    from nvidia.dali import fn, math, types

    kept = math.min(math.max(levels, 0.0), float(TOP))
    graph.set(fn.cast(math.floor(kept), dtype=types.UINT8))


def _blend(graph: Graph, image: Any, other: Any, factor: Any) -> None:
    cut_off(graph, other + factor * (image - other))


def _with_grey(graph: Graph) -> tuple[Any, Any]:
    """Return the image as floats, and its brightness (height, width, 1) in whole levels."""
    from nvidia.dali import fn, math, types

    image = fn.cast(graph.upright(), dtype=types.FLOAT)
    shade = math.floor(grey([image[:, :, channel] for channel in range(3)]) + 0.5)
    return image, fn.stack(shade, axis=2, axis_name="C")


def _operator(name: str) -> Any:
    """Return an operator of DALI's that was an experiment in releases before 2."""
    from nvidia.dali import fn

    return getattr(fn, name, None) or getattr(fn.experimental, name)


def _turned_over(image: Any) -> Any:
    from nvidia.dali import types

    return types.Constant(TOP, dtype=types.UINT8) - image
