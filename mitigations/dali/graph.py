"""A DALI pipeline while it is being written: encoded files in, one tensor per image out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's "L" and torchvision's grayscale


def grey(channels: list[Any]) -> Any:
    """Return the brightness of each pixel."""
    red, green, blue = (w * c for w, c in zip(GREY_WEIGHTS, channels, strict=True))
    return red + green + blue


class Graph:
    """The image as far as it has come; conversions and mirroring are put off until they fuse."""

    def __init__(self, encoded: Any, *, gpu: bool, decoded: bool = False) -> None:
        self._encoded = encoded
        self._gpu = gpu
        self._image: Any = encoded if decoded else None
        self._mirror: Any = None
        self._bytes_wanted_as_floats = False
        self._levels = False  # the image holds levels, 0 to 255, as floats: rounding is dear
        self.floating = False  # the image holds floats from 0 to 1
        self.finished = False  # channels first already

    def crop(self, start: Any, shape: Any, *, fill: float | None = None) -> None:
        """Cut a region out; as the first step, decode nothing but the region."""
        from nvidia.dali import fn

        region = {"start": start, "shape": shape, "axes": [0, 1]}
        if self._image is None and fill is None:
            self._image = fn.decoders.image_slice(self._encoded, **region, **self._decoding())
            return
        if fill is not None:
            region |= {"out_of_bounds_policy": "pad", "fill_values": float(fill)}
        if self.finished:
            region["axes"] = [1, 2]
        self.set(fn.slice(self.upright(), **region))

    def upright(self) -> Any:
        """Return the image with what was put off done: where positions count."""
        from nvidia.dali import fn

        if self._mirror is not None:
            self._image = fn.flip(self.pixels(), horizontal=self._mirror)
            self._mirror = None
        return self.pixels()

    def pixels(self) -> Any:
        """Return the image, perhaps still to be mirrored: where only colours count."""
        from nvidia.dali import fn, types

        self._decode()
        if self._bytes_wanted_as_floats:
            self._image = fn.cast(self._image, dtype=types.FLOAT) * (1.0 / 255.0)
            self._bytes_wanted_as_floats, self._levels, self.floating = False, False, True
        return self._image

    def set(self, image: Any) -> None:
        self._image = image

    def some(
        self, flags: Any, build: Callable[[Graph, dict[str, Any]], None], given: dict[str, Any]
    ) -> None:
        """Let `build` work on the images with a flag; the others stay as they are."""
        from nvidia.dali import fn

        untyped: Any = fn  # what DALI makes of `if` in a pipeline; its stubs leave it out
        conditional = untyped._conditional
        self.settle()
        inside, outside = conditional.split(self._image, predicate=flags)
        chosen = {
            name: conditional.split(value, predicate=flags)[0] for name, value in given.items()
        }
        branch = Graph(inside, gpu=self._gpu, decoded=True)
        branch.floating, branch.finished = self.floating, self.finished
        build(branch, chosen)
        branch.settle()
        self._image = conditional.merge(branch.pixels(), outside, predicate=flags)

    def settle(self) -> None:
        """Do what was put off, and round levels: the image holds bytes, or floats from 0 to 1."""
        from nvidia.dali import fn, types

        image = self.upright()
        self._image = fn.cast(image, dtype=types.UINT8) if self._levels else image
        self._levels = False

    @property
    def device(self) -> str:
        return "gpu" if self._gpu else "cpu"

    def beside(self, argument: Any) -> Any:
        """Return an argument where the pixels are, for arithmetic with them."""
        return argument.gpu() if self._gpu else argument

    def mirror(self, flags: Any) -> None:
        if self._mirror is not None or self.finished:
            from nvidia.dali import fn

            self._image = fn.flip(self.upright(), horizontal=flags)
            return
        self._mirror = flags

    def to_floats(self) -> None:
        if not self.floating:
            self._bytes_wanted_as_floats = True

    def channels(self) -> list[Any]:
        """Return red, green and blue as floats."""
        from nvidia.dali import fn, types

        image = fn.cast(self.pixels(), dtype=types.FLOAT)
        return [image[:, :, channel] for channel in range(3)]

    def put(self, channels: list[Any]) -> None:
        """Make these floats the image, clipped to what an image holds."""
        from nvidia.dali import fn

        kept = [self.clipped(channel) for channel in channels]
        self._image = fn.stack(*kept, axis=2, axis_name="C")
        self._levels = not self.floating

    def clipped(self, values: Any) -> Any:
        from nvidia.dali import math

        return math.min(math.max(values, 0.0), 1.0 if self.floating else 255.0)

    def resize(
        self, size: Any, *, interpolation: str, antialias: bool, region: Any = None
    ) -> None:
        from nvidia.dali import fn, types

        how: dict[str, Any] = {"antialias": antialias}
        how["interp_type"] = getattr(types, f"INTERP_{interpolation}")
        if region is not None:
            how |= {"roi_start": region[0], "roi_end": region[1]}
        image = fn.resize(self.upright(), size=size, **how)
        self._image = self.clipped(image) if self._levels else image

    def finish(self, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)) -> None:
        """Normalise, mirror what is still to be mirrored, and put the channels first."""
        from nvidia.dali import fn, types

        self._decode()
        floats = self.floating or self._bytes_wanted_as_floats
        top = 255.0 if self._bytes_wanted_as_floats else 1.0
        self._bytes_wanted_as_floats, self.floating = False, floats
        layout = {"output_layout": "CHW", "dtype": types.FLOAT if floats else types.UINT8}
        mirror = {} if self._mirror is None else {"mirror": self._mirror}
        self._mirror = None
        self._image = fn.crop_mirror_normalize(
            self._image,
            mean=[top * value for value in mean],
            std=[top * value for value in std],
            **layout,
            **mirror,
        )
        self.finished = True

    def output(self) -> Any:
        if not self.finished or self._mirror is not None:
            self.finish()
        return self.pixels()

    def _decode(self) -> None:
        from nvidia.dali import fn

        if self._image is None:
            self._image = fn.decoders.image(self._encoded, **self._decoding())

    def _decoding(self) -> dict[str, Any]:
        from nvidia.dali import types

        return {
            "device": "mixed" if self._gpu else "cpu",
            "output_type": types.RGB,
            "adjust_orientation": False,  # torchvision's loader leaves EXIF alone, too
            "jpeg_fancy_upsampling": True,  # as Pillow's libjpeg
        }
