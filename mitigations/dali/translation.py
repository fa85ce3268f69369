"""A torchvision transform as DALI steps, or why not: by name, with the reason."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.dali import choices, steps
from speedprof.mitigations.dali.stage import RefusedError, Stage
from speedprof.mitigations.dali.steps import Step
from speedprof.mitigations.dali.translators import TRANSLATORS

CHAINS = ("Compose", "Sequential")
CHOICES = ("RandomApply", "RandomChoice", "RandomOrder")
MOST_IN_ORDER = 4  # each place in the order has a copy of every operator
AFTER_NORMALIZE = ("RandomErasing", "ToPureTensor", "Identity")
SEVERAL = "it gives several images of one"
SIZES = "it gives images of several sizes"
REASONS = {
    "Lambda": "it is a function of the script's own",
    "RandomPerspective": "DALI's warp_affine keeps parallel lines parallel",
    "ElasticTransform": "DALI has no warp by a field of shifts that is drawn",
    "AugMix": "it mixes several chains of one image",
    "FiveCrop": SEVERAL,
    "TenCrop": SEVERAL,
    "RandomResize": SIZES,
    "RandomShortestSize": SIZES,
    "ScaleJitter": SIZES,
    "RandomZoomOut": SIZES,
    "RandomIoUCrop": SIZES,
}


@dataclass(frozen=True)
class Row:
    """One line of the table of a loader: a transform, and what became of it."""

    transform: str
    became: str | None  # None: refused
    why: str = ""  # it was refused
    near: str = ""  # to torchvision's values

    def __str__(self) -> str:
        if self.became is None:
            return f"{self.transform} refused: {self.why}"
        return f"{self.transform} as {self.became}{f' ({self.near})' if self.near else ''}"


@dataclass(frozen=True)
class Translation:
    """What became of each transform; `chain` is None where one was refused."""

    rows: tuple[Row, ...]
    chain: tuple[Step, ...] | None

    @property
    def random(self) -> bool:
        return any(step.random for step in self.chain or ())


def translate(transform: Any, channels: int = 3) -> Translation:
    """Translate a data set's transform; every transform that is refused is named."""
    stage = Stage(channels=channels)
    rows: list[Row] = []
    chain = _chain(_flat(transform), stage, rows)
    if stage.kind == "PIL" and all(row.became for row in rows):
        rows.append(Row("the chain", None, "it ends with PIL images, not with tensors"))
    whole = all(row.became for row in rows)
    return Translation(tuple(rows), tuple(chain) if whole else None)


def is_transform(value: Any) -> bool:
    """Tell whether a value is a transform of torchvision's, or a chain that starts with one."""
    flat = _flat(value) if value is not None else []
    return bool(flat) and _torchvisions(flat[0]) and callable(value)


def _chain(
    transforms: Iterable[Any], stage: Stage, rows: list[Row], inside: str = ""
) -> list[Step]:
    """Return the steps of transforms one after the other; what is refused is but a row."""
    chain: list[Step] = []
    for one in transforms:
        name = type(one).__name__ + inside
        at = len(rows)
        try:
            found = _one(one, stage, rows)
        except RefusedError as refusal:
            rows.insert(at, Row(name, None, str(refusal)))
            continue
        became = " and ".join(step.told for step in found) or Step.told
        near = ", ".join(dict.fromkeys(filter(None, (step.tolerance() for step in found))))
        rows.insert(at, Row(name, became, near=near))
        chain.extend(found)
    return chain


def _flat(transform: Any) -> list[Any]:
    if transform is None:
        return []
    if _torchvisions(transform) and type(transform).__name__ in CHAINS:
        return [inner for one in transform.transforms for inner in _flat(one)]
    if type(transform).__module__ == "torch.nn.modules.container":
        return [inner for one in transform for inner in _flat(one)]
    return [transform]


def _torchvisions(transform: Any) -> bool:
    return type(transform).__module__.startswith("torchvision.transforms.")


def _one(transform: Any, stage: Stage, rows: list[Row]) -> list[Step]:
    name = type(transform).__name__
    if not _torchvisions(transform):
        raise RefusedError(f"it is not torchvision's but {type(transform).__module__}'s")
    if stage.normalised and name not in AFTER_NORMALIZE:
        raise RefusedError("it comes after Normalize")
    if name in CHOICES:
        return [_choice(transform, stage, rows)]
    known = TRANSLATORS.get(name)
    if known is None:
        raise RefusedError(REASONS.get(name, "there is no equal in DALI"))
    return known(transform, stage)


def _choice(transform: Any, stage: Stage, rows: list[Row]) -> Step:
    """Translate what some images go through and others do not."""
    name = type(transform).__name__
    groups = (
        [transform.transforms] if name == "RandomApply" else [[t] for t in transform.transforms]
    )
    found = tuple(_alternative(group, stage, rows, name) for group in groups)
    if name == "RandomApply":
        return choices.RandomApply(found[0], float(transform.p))
    if name == "RandomChoice":
        weights = getattr(transform, "p", None) or [1.0] * len(found)
        return choices.RandomChoice(found, tuple(float(weight) for weight in weights))
    if len(found) > MOST_IN_ORDER:
        raise RefusedError(f"an order of more than {MOST_IN_ORDER}")
    if any(isinstance(step, steps.RESIZING) for inner in found for step in inner):
        raise RefusedError("what changes the size, in any order")
    return choices.RandomOrder(found)


def _alternative(
    group: Iterable[Any], stage: Stage, rows: list[Row], name: str
) -> tuple[Step, ...]:
    """Translate a chain that only some images go through: all must come out alike."""
    after = copy.copy(stage)
    flat = [one for transform in group for one in _flat(transform)]
    inner = tuple(_chain(flat, after, rows, f" in {name}"))
    if after != stage:
        raise RefusedError("it changes type or channels of some images and not of others")
    if any(isinstance(step, steps.RandomErasing) for step in inner):
        raise RefusedError("RandomErasing inside of it")
    return inner
