"""ColorJitter and grayscale as DALI does them.

Brightness, contrast and saturation mix the image with black, with its mean grey and with its own
grey. A turn of the hue (in HSV) keeps the largest and the smallest channel, so what is the same
for all channels of a pixel passes it unchanged. In whatever order torchvision applies the four,

    result = a x + b grey(x) + c grey(image) + d mean(grey(x)) + e mean(grey(image)),

with x the image after the turn. Only rounding and clipping in between are left out: a pixel that
one of the steps would have clipped may come out differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from speedprof.mitigations.dali import draws
from speedprof.mitigations.dali.draws import Pair
from speedprof.mitigations.dali.graph import Graph, grey
from speedprof.mitigations.dali.steps import Arguments, Step

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # numbered as torchvision does
SECTORS = 6.0  # of the colour circle
ONE_FACTOR = "±1.5"  # levels are not rounded to whole ones


@dataclass(frozen=True)
class ColorJitter(Step):
    """Ranges of the four factors; None where one is left alone."""

    ranges: tuple[Pair | None, Pair | None, Pair | None, Pair | None]
    told: ClassVar[str] = "arithmetic on pixels, grey and its mean"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        count = len(sizes)
        order = draws.order(random, count, len(self.ranges))
        factors = [draws.uniform(random, (count,), one or (1.0, 1.0)) for one in self.ranges]
        if self.ranges[HUE] is None:
            factors[HUE] = factors[HUE] * 0.0
        mixed = mixture(order, factors)
        if self.ranges[HUE] is None:  # then there is but one grey
            found = {"a": mixed["a"], "c": mixed["b"] + mixed["c"], "e": mixed["d"] + mixed["e"]}
        else:
            found = mixed | {"hue": factors[HUE] * SECTORS}
        return {name: value.float() for name, value in found.items()}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        from nvidia.dali import fn

        given = {name: graph.beside(value) for name, value in given.items()}
        channels = graph.channels()
        before = grey(channels)
        shared = given["c"] * before + given["e"] * fn.reductions.mean(before)
        if "hue" in given:
            channels = _turned(channels, given["hue"])
            after = grey(channels)
            shared = shared + given["b"] * after + given["d"] * fn.reductions.mean(after)
        graph.put([given["a"] * channel + shared for channel in channels])

    def tolerance(self) -> str:
        if sum(one is not None for one in self.ranges) > 1:
            return "±5, more where one clips black or white"
        return ONE_FACTOR if self.ranges[HUE] is None else "±9"


def mixture(order: Any, factors: list[Any]) -> dict[str, Any]:
    """Return a to e of the formula above for each sample, by its order of the four steps.

    Before the hue is turned, the grey at hand is that of the image; afterwards that of x.
    """
    import torch

    one = torch.ones(len(order), dtype=torch.float64)
    zero = torch.zeros_like(one)
    a, b, c, d, e = one, zero, zero, zero, zero
    turned = torch.zeros(len(order), dtype=torch.bool)
    for place in range(order.shape[1]):
        kind = order[:, place]
        factor = torch.stack(factors, dim=1).gather(1, kind[:, None])[:, 0]
        rest = 1.0 - factor
        bright, contrast, saturate = (kind == i for i in (BRIGHTNESS, CONTRAST, SATURATION))
        new, old = torch.where(turned, a, zero), torch.where(turned, zero, a)
        # what mixing with the grey of the present image, and with its mean, puts in
        by_grey = (factor * b + rest * (b + new), factor * c + rest * (c + old))
        by_mean = (factor * d + rest * (d + b + new), factor * e + rest * (e + c + old))
        scaled = bright | contrast
        b, d = (
            torch.where(saturate, by_grey[0], torch.where(scaled, factor * b, b)),
            torch.where(contrast, by_mean[0], torch.where(bright, factor * d, d)),
        )
        c, e = (
            torch.where(saturate, by_grey[1], torch.where(scaled, factor * c, c)),
            torch.where(contrast, by_mean[1], torch.where(bright, factor * e, e)),
        )
        a = torch.where(kind == HUE, a, factor * a)
        turned = turned | (kind == HUE)
    return {"a": a, "b": b, "c": c, "d": d, "e": e}


def _turned(channels: list[Any], sectors: Any) -> list[Any]:
    """Return red, green and blue with their hue turned by so many sixths of the circle, in HSV.

    With hue times chroma in place of the hue nothing is divided. The three channels are then the
    same trapezium of the distance to red, green and blue.
    """
    from nvidia.dali import fn, math, types

    red, green, blue = channels
    most = math.max(math.max(red, green), blue)
    least = math.min(math.min(red, green), blue)
    chroma = most - least
    is_red = fn.cast(red == most, dtype=types.FLOAT)
    is_blue = fn.cast(blue == most, dtype=types.FLOAT) * (1.0 - is_red)
    is_green = 1.0 - is_red - is_blue
    place = (
        is_red * (green - blue)
        + is_green * (blue - red + 2.0 * chroma)
        + is_blue * (red - green - 2.0 * chroma)
        + chroma * sectors
    )
    circle, twice = SECTORS * chroma, 2.0 * chroma

    def channel(centre: float) -> Any:
        away = math.abs(place - centre * chroma)
        away = math.min(away, math.abs(circle - away))
        return least + math.max(math.min(twice - away, chroma), 0.0)

    return [channel(0.0), channel(2.0), channel(-2.0)]


@dataclass(frozen=True)
class Grayscale(Step):
    channels: int
    told: ClassVar[str] = "arithmetic on pixels"

    def build(self, graph: Graph, given: Arguments) -> None:
        graph.put([grey(graph.channels())] * self.channels)

    def tolerance(self) -> str:
        return ONE_FACTOR


@dataclass(frozen=True)
class RandomGrayscale(Step):
    probability: float
    told: ClassVar[str] = "arithmetic on pixels"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        return {"flags": draws.chance(random, len(sizes), self.probability).float()}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        share, channels = graph.beside(given["flags"]), graph.channels()
        shared = share * grey(channels)
        graph.put([(1.0 - share) * channel + shared for channel in channels])

    def tolerance(self) -> str:
        return ONE_FACTOR
