"""The catalogue by its places: five actions on three components, and what lies beside them.

The actions and the components are those of Bartoldson, Kailkhura and Blalock, "Compute-Efficient
Deep Learning: Algorithmic Trends and Opportunities" (JMLR 2023). What keeps the meaning of the
training program is outside that survey; here it is `system`.
"""

from __future__ import annotations

from collections.abc import Sequence

from speedprof.mitigations.mitigation import ACTIONS, COMPONENTS, Mitigation

MEANING = {
    "remove": "leave work out",
    "restrict": "do it in a smaller space",
    "reorder": "do it at another time",
    "replace": "do something else instead",
    "retrofit": "add what pays for itself",
    "function": "the model",
    "data": "what it is trained on",
    "optimization": "how it is trained",
}
MENDED = "the training itself"  # what treats no bottleneck
Cell = tuple[str, str]  # action, component


def grid(catalogue: Sequence[Mitigation]) -> dict[Cell, list[Mitigation]]:
    """Return the remedies of each cell, all fifteen cells in the order of rows, empty ones too."""
    cells: dict[Cell, list[Mitigation]] = {
        (action, component): [] for action in ACTIONS for component in COMPONENTS
    }
    for one in catalogue:
        if one.action is not None and one.component is not None:
            cells[one.action, one.component].append(one)
    return cells


def system(catalogue: Sequence[Mitigation]) -> dict[str, list[Mitigation]]:
    """Return the remedies that keep the training's meaning, by the phase that they treat first."""
    found: dict[str, list[Mitigation]] = {}
    for one in catalogue:
        if one.place == "system":
            found.setdefault(one.treats[0][0] if one.treats else MENDED, []).append(one)
    return found


def select(
    catalogue: Sequence[Mitigation],
    *,
    bottleneck: tuple[str, str | None] | None = None,
    action: str | None = None,
    component: str | None = None,
    safety: str | None = None,
) -> list[Mitigation]:
    """Return what fits every filter that is given; an action may be "system", too.

    A bottleneck is a phase and a cause; without a cause, any of the phase.
    """
    return [
        one
        for one in catalogue
        if (bottleneck is None or _treats(one, *bottleneck))
        and (action is None or (one.action or "system") == action)
        and (component is None or one.component == component)
        and (safety is None or one.safety == safety)
    ]


def _treats(one: Mitigation, phase: str, cause: str | None) -> bool:
    return any(
        phase == treated and (cause is None or of is None or cause == of)
        for treated, of in one.treats
    )
