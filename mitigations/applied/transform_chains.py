"""Transforms in two parts: what is the same each time, and what has to be done anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TORCHVISION = "torchvision.transforms"
COMPOSE = "Compose"
STANDARD = "torchvision.datasets.vision.StandardTransform"  # a transform and a target's
NAMES = ("transform", "target_transform", "transforms")  # attributes of a data set
# Of torchvision, v1 and v2: no random numbers, nothing outside the input and their own attributes.
SAME = frozenset(
    {
        "CenterCrop", "ConvertImageDtype", "Grayscale", "Identity", "LinearTransformation",
        "Normalize", "PILToTensor", "Pad", "RGB", "Resize", "ToDtype", "ToImage", "ToPILImage",
        "ToPureTensor", "ToTensor",
    }
)  # fmt: skip
Step = Callable[..., Any]


@dataclass(frozen=True)
class Parts:
    """A transform as steps that follow each other; `same` of them are the same each time."""

    whole: Any
    steps: tuple[Any, ...]
    same: int
    joined: Callable[[tuple[Any, ...]], Step]  # steps to one transform again
    made: dict[tuple[int, int | None], Step] = field(default_factory=dict, compare=False)

    def before(self, cut: int) -> Step | None:
        """Return the first `cut` steps as one, None where there are none."""
        return self._made(0, cut) if cut else None

    def after(self, cut: int) -> Step | None:
        """Return what follows them, None where nothing does."""
        if not cut:
            return self.whole  # type: ignore[no-any-return]
        return self._made(cut, None) if cut < len(self.steps) else None

    def _made(self, first: int, last: int | None) -> Step:
        if (first, last) not in self.made:
            self.made[first, last] = self.joined(self.steps[first:last])
        return self.made[first, last]


def chains(dataset: Any) -> dict[str, Any]:
    """Return the transforms among the attributes of a data set, by name."""
    return {
        name: value
        for name, value in vars(dataset).items()
        if callable(value) and (name in NAMES or _is_torchvisions(value))
    }


def parts(chain: Any) -> Parts:
    """Take a transform apart; one that is not known is a single step, done anew each time."""
    if _is_torchvisions(chain) and type(chain).__name__ == COMPOSE:
        steps = tuple(chain.transforms)
        same = next((at for at, one in enumerate(steps) if not is_same(one)), len(steps))
        kind = type(chain)
        return Parts(chain, steps, same, lambda some: kind(list(some)))
    if _named(chain) == STANDARD and callable(chain.transform):
        return _standard(chain)
    return Parts(chain, (chain,), int(is_same(chain)), lambda some: some[0])


def is_same(step: Any) -> bool:
    """Tell whether a step is one of torchvision's own that always does the same."""
    if not _is_torchvisions(step):
        return False
    if type(step).__name__ == COMPOSE:
        return all(is_same(one) for one in step.transforms)
    return type(step).__name__ in SAME


def _standard(chain: Any) -> Parts:
    """Take torchvision's pair of a transform and the target's apart, by the first one's steps."""
    inner, kind = parts(chain.transform), type(chain)
    last = chain.target_transform

    def joined(some: tuple[Any, ...]) -> Step:
        behind = some[-1:] == (_TARGET,)
        steps = some[:-1] if behind else some
        return kind(inner.joined(steps) if steps else None, last if behind else None)  # type: ignore[no-any-return]

    return Parts(chain, (*inner.steps, _TARGET), inner.same, joined)


_TARGET = "the target's transform"


def _is_torchvisions(value: Any) -> bool:
    return type(value).__module__.startswith(TORCHVISION)


def _named(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__name__}"
