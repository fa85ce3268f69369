"""AutoAugment, RandAugment and TrivialAugmentWide: torchvision's policies on DALI's operators.

DALI's own (`nvidia.dali.auto_aug`) are others: its AutoAugment has other pairs of operations for
ImageNet and 11 strengths in place of 10, shifts by 250 pixels at most in place of 45 % of the
image, fills with grey in place of black, interpolates, equalizes by OpenCV's formula and sharpens
the border. So the operations, strengths and chances here are read from torchvision's transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from speedprof.mitigations.dali import draws, levels
from speedprof.mitigations.dali.chains import only, prefixed
from speedprof.mitigations.dali.choices import ON, some
from speedprof.mitigations.dali.graph import Graph
from speedprof.mitigations.dali.steps import Arguments, Step, warped

# torchvision's operations by what DALI does for them; those that are not here are no change
WARPED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
BLENDED = {"Brightness": "brighten", "Color": "saturate", "Contrast": "contrast"}
OTHERS = {
    "Sharpness": "sharpen",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "Invert": "solarize",
    "AutoContrast": "stretch",
    "Equalize": "equalize",
}
FAMILIES = {**dict.fromkeys(WARPED, "warp"), **BLENDED, **OTHERS}
KNOWN = (*FAMILIES, "Identity")
BUILDERS = {
    **levels.OPERATIONS,
    "brighten": levels.brighten,
    "saturate": levels.saturate,
    "contrast": levels.contrast,
}
FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")  # 1 and the magnitude

Entry = tuple[str, float, int]  # an operation, its probability, the number of its strength


@dataclass(frozen=True)
class Space:
    """The operations of a policy and their magnitudes: so much, and so much more a pixel."""

    names: tuple[str, ...]
    fixed: tuple[tuple[float, ...], ...]  # by operation and number of the strength
    by_size: tuple[tuple[tuple[float, float], ...], ...]  # the same, for height and width
    signed: tuple[bool, ...]

    def magnitudes(self, kind: Any, strength: Any, sizes: Any) -> Any:
        import torch

        fixed = torch.tensor(self.fixed, dtype=torch.float64)[kind, strength]
        slopes = torch.tensor(self.by_size, dtype=torch.float64)[kind, strength]
        return fixed + (slopes * sizes).sum(dim=1)


@dataclass(frozen=True)
class Policy(Step):
    """Some operations one after the other, drawn for each image."""

    space: Space
    stages: int
    strength: int | None  # of every operation; None: drawn evenly
    pairs: tuple[tuple[Entry, ...], ...]  # AutoAugment's, one is drawn; none: all as likely
    interpolation: str
    fill: float
    told: ClassVar[str] = "warp_affine, filter, equalize and arithmetic on splits of the batch"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        count = len(sizes)
        pair = draws.choice(random, count, (1.0,) * max(len(self.pairs), 1))
        given: Arguments = {}
        for stage in range(self.stages):
            kind, strength, chosen = self._operations(random, pair, stage)
            sign = 1.0 - 2.0 * draws.chance(random, count, 0.5).double()
            import torch

            signed = torch.tensor(self.space.signed)[kind]
            magnitude = self.space.magnitudes(kind, strength, sizes)
            magnitude = torch.where(signed, magnitude * sign, magnitude)
            given |= prefixed(self._arguments(kind, chosen, magnitude, sizes), str(stage))
        return given, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        for stage in range(self.stages):
            of_stage = only(given, str(stage))
            for family in self._families():
                arguments = only(of_stage, family)
                some(graph, arguments, BUILDERS.get(family, self._warp))

    def tolerance(self) -> str:
        return "±2 for 95 of 100"

    def _families(self) -> list[str]:
        return list(dict.fromkeys(FAMILIES[one] for one in self.space.names if one in FAMILIES))

    def _operations(self, random: Any, pair: Any, stage: int) -> tuple[Any, Any, Any]:
        """Draw operation, strength and whether it happens, for each image."""
        import torch

        names, count = self.space.names, len(pair)
        if not self.pairs:
            kind = draws.choice(random, count, (1.0,) * len(names))
            bins = len(self.space.fixed[0])
            drawn = draws.choice(random, count, (1.0,) * bins)
            strength = drawn if self.strength is None else torch.full_like(kind, self.strength)
            return kind, strength, torch.ones(count, dtype=torch.bool)
        entries = [entry[stage] for entry in self.pairs]
        kind = torch.tensor([names.index(name) for name, _p, _number in entries])[pair]
        strength = torch.tensor([number for _name, _p, number in entries])[pair]
        odds = torch.tensor([p for _name, p, _number in entries])[pair]
        return kind, strength, torch.rand(count, generator=random) <= odds

    def _arguments(self, kind: Any, chosen: Any, magnitude: Any, sizes: Any) -> Arguments:
        given: Arguments = {}
        for family in self._families():
            flags = chosen & self._among(kind, [n for n in FAMILIES if FAMILIES[n] == family])
            strength = magnitude
            if family == "warp":
                found = {"matrix": self._matrices(kind, magnitude, sizes)}
            elif family in BLENDED.values():
                found = {"factor": (1.0 + magnitude).float()}
            else:
                if family == "sharpen":
                    strength = 1.0 + magnitude
                found = levels.arguments(family, strength, sizes)
            given |= prefixed({ON: flags, **found}, family)
        return given

    def _among(self, kind: Any, names: list[str]) -> Any:
        import torch

        return torch.tensor([name in names for name in self.space.names])[kind]

    def _matrices(self, kind: Any, magnitude: Any, sizes: Any) -> Any:
        """Return the way from output to input; shears are about the corner."""
        import torch

        zero = torch.zeros_like(magnitude)
        amount = {name: torch.where(self._among(kind, [name]), magnitude, zero) for name in WARPED}
        lean = [amount[name].atan() * (180.0 / math.pi) for name in ("ShearX", "ShearY")]
        shift = torch.stack([amount["TranslateX"], amount["TranslateY"]], dim=1).trunc()
        one = torch.ones_like(magnitude)
        sheared = draws.inverse_affine(
            sizes, zero, shift=shift * 0.0, scale=one, shear=torch.stack(lean, dim=1),
            center=(0.0, 0.0),
        )  # fmt: skip
        turned = draws.inverse_affine(
            sizes, -amount["Rotate"], shift=shift, scale=one,
            shear=torch.zeros_like(shift), center=None,
        )  # fmt: skip
        leaning = self._among(kind, ["ShearX", "ShearY"])
        return torch.where(leaning[:, None, None], sheared, turned).float()

    def _warp(self, graph: Graph, given: Arguments) -> None:
        warped(graph, given["matrix"], self.interpolation, self.fill)


def space_of(transform: Any, bins: int) -> Space:
    """Return the operations of one of torchvision's policies, as it has them."""
    none, one_high, one_wide = (_table(transform, bins, size) for size in ((0, 0), (1, 0), (0, 1)))
    return Space(
        names=tuple(none),
        fixed=tuple(none[name][0] for name in none),
        by_size=tuple(
            tuple(
                (high - base, wide - base)
                for base, high, wide in zip(
                    none[name][0], one_high[name][0], one_wide[name][0], strict=True
                )
            )
            for name in none
        ),
        signed=tuple(none[name][1] for name in none),
    )


def _table(
    transform: Any, bins: int, size: tuple[int, int]
) -> dict[str, tuple[tuple[float, ...], bool]]:
    """Return magnitudes, and whether their sign is drawn, for images of this height and width."""
    v2 = getattr(transform, "_AUGMENTATION_SPACE", None)
    if v2 is not None:
        found = {name: (values(bins, *size), signed) for name, (values, signed) in v2.items()}
    elif type(transform).__name__ == "TrivialAugmentWide":
        found = transform._augmentation_space(bins)
    else:
        found = transform._augmentation_space(bins, size)
    return {
        name: (_magnitudes(name, values, bins, of_one=v2 is not None), signed)
        for name, (values, signed) in found.items()
    }


def _magnitudes(name: str, values: Any, bins: int, *, of_one: bool) -> tuple[float, ...]:
    """Return one magnitude a strength; v2 gives thresholds as parts of the highest level."""
    if values is None or values.dim() == 0:
        return (0.0,) * bins
    scale = float(levels.TOP) if name == "Solarize" and of_one else 1.0
    return tuple(scale * value for value in values.double().tolist())
