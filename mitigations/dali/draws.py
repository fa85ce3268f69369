"""The random parameters of torchvision's transforms, drawn for a whole batch at once.

Each function has the distribution of the transform's own `get_params` (torchvision 0.21 to 0.29);
what torchvision draws one sample after the other is one tensor here, from a batch's generator.
"""

from __future__ import annotations

import math
from typing import Any

ATTEMPTS = 10  # at a box, as in torchvision

Pair = tuple[float, float]


def uniform(random: Any, shape: tuple[int, ...], bounds: Pair) -> Any:
    import torch

    low, high = bounds
    return torch.rand(shape, generator=random, dtype=torch.float64) * (high - low) + low


def chance(random: Any, count: int, probability: float) -> Any:
    """Return 1 for each sample that something happens to, 0 for the others."""
    import torch

    return (torch.rand(count, generator=random) < probability).to(torch.int32)


def below(random: Any, most: Any) -> Any:
    """Return a whole number from 0 to `most`, both included, for each entry of it."""
    import torch

    drawn = torch.rand(most.shape, generator=random, dtype=torch.float64)
    return torch.minimum((drawn * (most + 1)).floor().long(), most)


def order(random: Any, count: int, parts: int) -> Any:
    """Return a permutation of `parts` things for each sample."""
    import torch

    return torch.rand((count, parts), generator=random).argsort(dim=1)


def choice(random: Any, count: int, weights: tuple[float, ...]) -> Any:
    """Return the number of one of the weights for each sample, as often as they say."""
    import torch

    shares = torch.tensor(weights, dtype=torch.float64)
    return torch.multinomial(shares, count, replacement=True, generator=random)


def crops(random: Any, sizes: Any, scale: Pair, ratio: Pair) -> tuple[Any, Any]:
    """Return starts and shapes (height, width) of RandomResizedCrop, one row a sample."""
    import torch

    area, aspect = _boxes(random, sizes, scale, ratio)
    shapes = torch.stack([(area / aspect).sqrt().round(), (area * aspect).sqrt().round()], dim=2)
    shapes = shapes.long()
    fits = ((shapes > 0) & (shapes <= sizes[:, None])).all(dim=2)
    chosen, found = _first(shapes, fits)
    shape = torch.where(found[:, None], chosen, _whole(sizes, ratio))
    free = sizes - shape
    return torch.where(found[:, None], below(random, free), free // 2), shape


def erasures(random: Any, sizes: Any, scale: Pair, ratio: Pair) -> tuple[Any, Any]:
    """Return starts and shapes of RandomErasing; a shape of 0 where no box was found."""
    import torch

    area, aspect = _boxes(random, sizes, scale, ratio)
    shapes = torch.stack([(area * aspect).sqrt().round(), (area / aspect).sqrt().round()], dim=2)
    shapes = shapes.long()
    fits = (shapes < sizes[:, None]).all(dim=2)
    chosen, found = _first(shapes, fits)
    shape = chosen * found[:, None]
    return below(random, sizes - shape), shape


def _boxes(random: Any, sizes: Any, scale: Pair, ratio: Pair) -> tuple[Any, Any]:
    tries = (len(sizes), ATTEMPTS)
    area = sizes.prod(dim=1, keepdim=True) * uniform(random, tries, scale)
    bounds = (math.log(ratio[0]), math.log(ratio[1]))
    return area, uniform(random, tries, bounds).exp()


def _first(values: Any, good: Any) -> tuple[Any, Any]:
    import torch

    found = good.any(dim=1)
    rows = torch.arange(len(values))
    return values[rows, good.int().argmax(dim=1)], found


def _whole(sizes: Any, ratio: Pair) -> Any:
    """Return the largest centred shape within the ratios, torchvision's last resort."""
    import torch

    height, width = sizes.double().unbind(dim=1)
    tall, wide = width / height < ratio[0], width / height > ratio[1]
    heights = torch.where(tall, (width / ratio[0]).round(), height)
    widths = torch.where(wide, (height * ratio[1]).round(), width)
    return torch.stack([heights, widths], dim=1).long()


def inverse_affine(
    sizes: Any, angle: Any, *, shift: Any, scale: Any, shear: Any, center: Pair | None
) -> Any:
    """Return torchvision's matrices from output to input, (samples, 2, 3); angles in degrees."""
    import torch

    turn = torch.deg2rad(angle)
    shear_x, shear_y = torch.deg2rad(shear).unbind(dim=1)
    lean = turn - shear_y
    a, c = lean.cos() / shear_y.cos(), lean.sin() / shear_y.cos()
    b = -lean.cos() * shear_x.tan() / shear_y.cos() - turn.sin()
    d = -lean.sin() * shear_x.tan() / shear_y.cos() + turn.cos()
    linear = torch.stack([d, -b, -c, a], dim=1).view(-1, 2, 2) / scale[:, None, None]
    middle = (sizes.flip(1) * 0.5).double()  # x, y
    if center is not None:
        middle = torch.tensor(center, dtype=torch.float64).expand_as(middle)
    offset = middle - (linear @ (middle + shift)[:, :, None])[:, :, 0]
    return torch.cat([linear, offset[:, :, None]], dim=2)
