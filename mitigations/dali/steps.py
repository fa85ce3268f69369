"""One transform each, as DALI does it: what is drawn for a batch, and what the pipeline has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from speedprof.mitigations.dali import draws
from speedprof.mitigations.dali.draws import Pair
from speedprof.mitigations.dali.graph import Graph

Arguments = dict[str, Any]  # by name: a tensor with one row for each sample


@dataclass(frozen=True)
class Step:
    """A transform that was understood."""

    told: ClassVar[str] = "nothing to do"
    random: ClassVar[bool] = False

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        """Return the arguments of a batch whose images have these heights and widths.

        And the sizes of what comes out. `random` is the batch's own generator.
        """
        return {}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        """Add DALI's operators; `given` holds the pipeline's nodes of what `draw` returns."""

    def tolerance(self) -> str:
        """Say how near 99 of 100 values are to torchvision's, in grey levels of 255."""
        return ""


def fixed(sizes: Any, height: int, width: int) -> Any:
    import torch

    return torch.tensor([height, width]).expand(len(sizes), 2)


@dataclass(frozen=True)
class Resize(Step):
    """To (height, width), or the shorter side to one length."""

    size: tuple[int, ...]
    most: int | None
    interpolation: str
    antialias: bool
    told: ClassVar[str] = "resize"

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        import torch

        if len(self.size) == 2:
            return {}, fixed(sizes, *self.size)
        short, long = sizes.amin(dim=1), sizes.amax(dim=1)
        shorter = torch.full_like(short, self.size[0])
        longer = self.size[0] * long // short
        if self.most is not None:
            over = longer > self.most
            shorter = torch.where(over, self.most * shorter // longer, shorter)
            longer = longer.clamp(max=self.most)
        wide = sizes[:, 1] > sizes[:, 0]
        height = torch.where(wide, shorter, longer)
        size = torch.stack([height, torch.where(wide, longer, shorter)], dim=1)
        return {"size": size.float()}, size

    def build(self, graph: Graph, given: Arguments) -> None:
        size = given.get("size", [float(side) for side in self.size])
        graph.resize(size, interpolation=self.interpolation, antialias=self.antialias)

    def tolerance(self) -> str:
        return resized(self.interpolation)


@dataclass(frozen=True)
class RandomResizedCrop(Step):
    size: tuple[int, int]
    scale: Pair
    ratio: Pair
    interpolation: str
    antialias: bool
    told: ClassVar[str] = "a decoder or slice of that region, then resize"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        start, shape = draws.crops(random, sizes, self.scale, self.ratio)
        given = {"start": start.int(), "shape": shape.int()}
        return given, fixed(sizes, *self.size)

    def build(self, graph: Graph, given: Arguments) -> None:
        size = [float(side) for side in self.size]
        how: dict[str, Any] = {"interpolation": self.interpolation, "antialias": self.antialias}
        if "roi_start" in given:  # of an image that was shrunk while decoding
            graph.resize(size, region=(given["roi_start"], given["roi_end"]), **how)
            return
        graph.crop(given["start"], given["shape"])
        graph.resize(size, **how)

    def tolerance(self) -> str:
        return resized(self.interpolation)


def resized(interpolation: str) -> str:
    return "±25" if interpolation == "NN" else "±1"


@dataclass(frozen=True)
class CenterCrop(Step):
    size: tuple[int, int]
    told: ClassVar[str] = "slice, with zeros around smaller images"

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        import torch

        wanted = fixed(sizes, *self.size)
        inside = ((sizes - wanted) / 2.0).round().long()
        start = torch.where(sizes < wanted, -((wanted - sizes) // 2), inside)
        return {"start": start.int(), "shape": wanted.int()}, wanted

    def build(self, graph: Graph, given: Arguments) -> None:
        graph.crop(given["start"], given["shape"], fill=0.0)


@dataclass(frozen=True)
class Pad(Step):
    padding: tuple[int, int, int, int]  # left, top, right, bottom
    fill: float
    told: ClassVar[str] = "slice, with the fill around the image"

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        import torch

        left, top, right, bottom = self.padding
        padded = sizes + torch.tensor([top + bottom, left + right])
        start = torch.tensor([-top, -left]).expand(len(sizes), 2)
        return {"start": start.int(), "shape": padded.int()}, padded

    def build(self, graph: Graph, given: Arguments) -> None:
        graph.crop(given["start"], given["shape"], fill=self.fill)


@dataclass(frozen=True)
class RandomCrop(Step):
    size: tuple[int, int]
    padding: tuple[int, int, int, int]  # left, top, right, bottom
    fill: float
    told: ClassVar[str] = "slice"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        import torch

        left, top, right, bottom = self.padding
        wanted = fixed(sizes, *self.size)
        free = sizes + torch.tensor([top + bottom, left + right]) - wanted
        if bool((free < 0).any()):
            raise ValueError("Required crop size is larger than an image")
        start = draws.below(random, free) - torch.tensor([top, left])
        return {"start": start.int(), "shape": wanted.int()}, wanted

    def build(self, graph: Graph, given: Arguments) -> None:
        fill = self.fill if any(self.padding) else None
        graph.crop(given["start"], given["shape"], fill=fill)


@dataclass(frozen=True)
class RandomFlip(Step):
    probability: float
    horizontal: bool
    told: ClassVar[str] = "flip, or the mirror of crop_mirror_normalize"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        return {"flags": draws.chance(random, len(sizes), self.probability)}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        from nvidia.dali import fn

        if self.horizontal:
            graph.mirror(given["flags"])
            return
        graph.set(fn.flip(graph.upright(), horizontal=0, vertical=given["flags"]))


@dataclass(frozen=True)
class RandomAffine(Step):
    """Rotation, shift, scale and shear about the middle; RandomRotation is one of these."""

    degrees: Pair
    translate: Pair | None
    scale: Pair | None
    shear: tuple[float, ...] | None  # least and most in x, then in y
    center: Pair | None
    interpolation: str
    fill: float
    told: ClassVar[str] = "warp_affine"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        import torch

        count = len(sizes)
        shift, shear = torch.zeros(count, 2).double(), torch.zeros(count, 2).double()
        angle = draws.uniform(random, (count,), self.degrees)
        if self.translate is not None:
            most = sizes.flip(1) * torch.tensor(self.translate, dtype=torch.float64)
            shift = (draws.uniform(random, (count, 2), (-1.0, 1.0)) * most).round()
        scale = draws.uniform(random, (count,), self.scale or (1.0, 1.0))
        for axis in range(len(self.shear or ()) // 2):
            low, high = (self.shear or ())[2 * axis : 2 * axis + 2]
            shear[:, axis] = draws.uniform(random, (count,), (low, high))
        matrix = draws.inverse_affine(
            sizes, angle, shift=shift, scale=scale, shear=shear, center=self.center
        )
        return {"matrix": matrix.float()}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        warped(graph, given["matrix"], self.interpolation, self.fill)

    def tolerance(self) -> str:
        return "" if self.interpolation == "NN" else "±20"


def warped(graph: Graph, matrix: Any, interpolation: str, fill: float) -> None:
    """Take each pixel from where its matrix says, from output to input."""
    from nvidia.dali import fn, types

    how = getattr(types, f"INTERP_{interpolation}")
    graph.set(fn.warp_affine(graph.upright(), matrix=matrix, interp_type=how, fill_value=fill))


@dataclass(frozen=True)
class GaussianBlur(Step):
    kernel: tuple[int, int]  # x, y
    sigma: Pair
    told: ClassVar[str] = "gaussian_blur"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        return {"sigma": draws.uniform(random, (len(sizes),), self.sigma).float()}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        from nvidia.dali import fn

        window = list(reversed(self.kernel))
        graph.set(fn.gaussian_blur(graph.pixels(), window_size=window, sigma=given["sigma"]))


@dataclass(frozen=True)
class ToFloats(Step):
    told: ClassVar[str] = "crop_mirror_normalize"

    def build(self, graph: Graph, given: Arguments) -> None:
        graph.to_floats()


@dataclass(frozen=True)
class Normalize(Step):
    mean: tuple[float, ...]
    std: tuple[float, ...]
    told: ClassVar[str] = "crop_mirror_normalize"

    def build(self, graph: Graph, given: Arguments) -> None:
        graph.finish(self.mean, self.std)


@dataclass(frozen=True)
class RandomErasing(Step):
    probability: float
    scale: Pair
    ratio: Pair
    value: tuple[float, ...]
    told: ClassVar[str] = "erase"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        happens = draws.chance(random, len(sizes), self.probability)
        start, shape = draws.erasures(random, sizes, self.scale, self.ratio)
        shape = shape * happens[:, None]
        return {"start": start.float(), "shape": shape.float()}, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        from nvidia.dali import fn

        if not graph.finished:
            graph.finish()
        graph.set(
            fn.erase(
                graph.upright(),
                anchor=given["start"],
                shape=given["shape"],
                axis_names="HW",
                fill_value=list(self.value),
                normalized=False,
            )
        )


RESIZING = (Resize, RandomResizedCrop, CenterCrop, RandomCrop, Pad)
