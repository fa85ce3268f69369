"""Whether a data set and its transforms still hold what they held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speedprof.mitigations.applied.transform_chains import Parts

ATOMS = (bool, int, float, complex, str, bytes, type(None))
SMALL = 1024  # bytes of an array that are compared
Attributes = list[tuple[str, Any, Any]]  # name, value, and what tells of a change in place


def attributes(dataset: Any, chains: Mapping[str, Parts]) -> Attributes:
    """Return what a data set, and the steps of its transforms that are kept, hold."""
    found = [(name, value, mark(value)) for name, value in vars(dataset).items()]
    for name, chain in chains.items():
        steps = getattr(chain.whole, "transforms", ())
        if isinstance(steps, (list, tuple)):
            found += [(f"{name}.transforms[{at}]", one, None) for at, one in enumerate(steps)]
        for step in chain.steps[: chain.same]:
            held = list(getattr(step, "__dict__", {}).items())
            found += [(f"{name}: {own}", value, mark(value)) for own, value in held]
    return found


def alike(some: Attributes, others: Attributes) -> bool:
    return len(some) == len(others) and all(
        one[0] == other[0]
        and one[2] == other[2]
        and (one[1] is other[1] or (isinstance(one[1], ATOMS) and one[1] == other[1]))
        for one, other in zip(some, others, strict=True)
    )


def changed(before: Attributes, now: Attributes, *, opening: bool) -> str | None:
    """Return the name of what changed, None if that is only what was opened for the first time."""
    if len(before) != len(now):
        return "what it holds"
    for one, other in zip(before, now, strict=True):
        if not alike([one], [other]) and not (opening and one[1] is None):
            return f"its attribute {one[0]!r}"
    return None


def mark(value: Any) -> Any:
    """Return what tells that a value was changed in place, as far as that is quickly told."""
    if isinstance(value, (list, dict, set)):
        return len(value)
    if hasattr(value, "_version"):
        return value._version  # noqa: SLF001 - torch counts what is written into a tensor
    if getattr(value, "nbytes", SMALL + 1) <= SMALL and hasattr(value, "tobytes"):
        return value.tobytes()
    return None
