"""Operations on the levels of images of bytes, as Pillow's ImageOps and ImageEnhance do them.

Pillow cuts off what follows the point where it blends, and so do these: but for the last digit of
a float, the levels are the same. What is looked up in a histogram is the same within a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from speedprof.mitigations.dali import draws
from speedprof.mitigations.dali.choices import ON, some
from speedprof.mitigations.dali.graph import Graph
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

    def tolerance(self) -> str:
        return "" if self.operation in ("posterize", "solarize") else "±1"


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

    image = graph.upright()
    least = fn.cast(fn.reductions.min(image, **HW), dtype=types.FLOAT)
    most = fn.cast(fn.reductions.max(image, **HW), dtype=types.FLOAT)
    flat = fn.cast(most == least, dtype=types.FLOAT)
    scale = float(TOP) / (most - least + flat * float(TOP))
    _cut_off(graph, image * scale, least * (flat - 1.0) * scale)


def equalize(graph: Graph, _given: Arguments) -> None:
    """Spread each channel so that every level comes as often, by Pillow's own formula.

    Pillow's level for v is (pixels below v + step // 2) // step, with step = (pixels below the
    highest level) // 255. DALI's operator, OpenCV's, counts the pixels up to v in place of those
    below. Turned over, it counts those from v on, which is the rest. Pillow leaves an image alone
    whose step is 0.
    """
    from nvidia.dali import fn, math, types

    image = graph.upright()
    lower = fn.cast(image != fn.reductions.max(image, **HW), dtype=types.FLOAT)
    parts = fn.reductions.sum(lower, **HW) * (1.0 / TOP)
    step = math.floor(parts + NEARLY / TOP)
    spread = fn.cast(step > 0.5, dtype=types.FLOAT)  # 0 where there is no step
    divisor = math.max(step, 1.0)
    rest = _operator("equalize")(_turned_over(image))  # 255 and minus what is wanted
    slope = parts / divisor * spread
    half = math.floor(divisor * 0.5) / divisor * spread
    _cut_off(graph, image * (1.0 - spread) - rest * slope, slope * float(TOP) + half)


def sharpen(graph: Graph, given: Arguments) -> None:
    """Mix with the smoothed image, whose outermost pixels are the image's own."""
    from nvidia.dali import fn

    image = graph.upright()
    part = 1.0 - graph.beside(given["factor"])  # of the smoothed image
    smooth = _operator("filter")(image, graph.beside(given["kernel"]))  # in whole levels
    change = smooth * part - image * part
    inside = fn.slice(change, start=[1, 1], shape=given["inner"], axes=[0, 1])
    around: dict[str, Any] = {"out_of_bounds_policy": "pad", "fill_values": 0.0}
    change = fn.slice(inside, start=[-1, -1], shape=given["whole"], axes=[0, 1], **around)
    _cut_off(graph, change + image, 0.0)


def brighten(graph: Graph, given: Arguments) -> None:
    _cut_off(graph, graph.upright() * graph.beside(given["factor"]), 0.0)


def saturate(graph: Graph, given: Arguments) -> None:
    image, factor = graph.upright(), graph.beside(given["factor"])
    _cut_off(graph, image * factor + _shade(image) * (1.0 - factor), 0.0)


def contrast(graph: Graph, given: Arguments) -> None:
    from nvidia.dali import fn, math

    image, factor = graph.upright(), graph.beside(given["factor"])
    middle = math.floor(fn.reductions.mean(_shade(image), axes=[0, 1], keep_dims=True) + 0.5)
    _cut_off(graph, image * factor, middle * (1.0 - factor))


OPERATIONS = {
    "posterize": posterize,
    "solarize": solarize,
    "stretch": stretch,
    "equalize": equalize,
    "sharpen": sharpen,
}


def _cut_off(graph: Graph, levels: Any, offset: Any) -> None:
    """Make these floats, and an offset, the image: clipped, without what follows the point.

    A cast clips, and it rounds: half a level less than there is, it cuts off.
    """
    from nvidia.dali import fn, types

    graph.set(fn.cast(levels + (offset + (NEARLY - 0.5)), dtype=types.UINT8))


def _shade(image: Any) -> Any:
    """Return the brightness (height, width, 1) in whole levels."""
    from nvidia.dali import fn, types

    return fn.color_space_conversion(image, image_type=types.RGB, output_type=types.GRAY)


def _operator(name: str) -> Any:
    """Return an operator of DALI's that was an experiment in releases before 2."""
    from nvidia.dali import fn

    return getattr(fn, name, None) or getattr(fn.experimental, name)


def _turned_over(image: Any) -> Any:
    from nvidia.dali import types

    return types.Constant(TOP, dtype=types.UINT8) - image
