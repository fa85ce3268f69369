"""The labelled lines that every remedy's file opens with."""

from __future__ import annotations

from collections.abc import Callable

from speedprof.advisor.finding import Finding
from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.mitigation import Fit, Misfit, Mitigation
from speedprof.profiler.run import Run

LABELS = ("Does", "Helps", "Avoid", "Safety", "Place", "Source")
AGAINST = "Against"  # a further line of remedies that were measured not to pay


def lines(card: str) -> dict[str, str]:
    """Return the card's labelled lines; continuation lines are joined to theirs."""
    found: dict[str, str] = {}
    label = None
    for line in card.splitlines():
        head, colon, rest = line.partition(":")
        if colon and head in (*LABELS, AGAINST):
            label, found[head] = head, rest.strip()
        elif label is not None and line.strip():
            found[label] += " " + line.strip()
    return found


def remedy(
    name: str,
    card: str | None,
    *,
    treats: tuple[tuple[str, str | None], ...],
    assess: Callable[[Run, Finding], Fit | Misfit],
    how: str = "advice",
    conflicts: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
) -> Mitigation:
    """Make the remedy whose safety, place and source stand in its card, and nowhere else.

    What `speedprof run --apply` can do by itself is automatic; `how` tells of the others.
    """
    told = lines(card or "")
    place = told["Place"].split(".")[0]
    action, _, component = (
        place.partition(" x ") if not place.startswith("system") else ("", "", "")
    )
    return Mitigation(
        name=name,
        treats=treats,
        safety=told["Safety"].split(".")[0],
        how="automatic" if name in AUTOMATIC else how,
        place="5r" if action else "system",
        action=action or None,
        component=component or None,
        source=told["Source"],
        card=card or "",
        assess=assess,
        conflicts=conflicts,
        after=after,
        against=told.get(AGAINST, ""),
    )
