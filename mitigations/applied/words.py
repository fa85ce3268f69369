"""What came of a plan, in one sentence: the same in a script's own words and in a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

NOT_MET = "what it changes was not met in this run"


class Remedied(Protocol):
    """A remedy that was put in force, in whatever form it is kept."""

    @property
    def name(self) -> str: ...
    @property
    def effects(self) -> int: ...
    @property
    def notes(self) -> list[str]: ...


def sentence(remedies: Iterable[Remedied], changes: Sequence[str]) -> str:
    """Say which remedies had an effect and which had none, and why.

    `changes` are all live ones, of which some are remedies'.
    """
    found = list(remedies)
    worked = [one.name for one in found if one.effects]
    number = len(live(changes, worked))
    begin = "in force" if not number else f"{counted(number)} in force"
    said = [f"{begin}: {', '.join(worked)}"] if worked else []
    said += [f"{one.name} had no effect ({remarks(one)})" for one in found if not one.effects]
    return "; ".join(said)


def live(changes: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the changes that remedies made: their reason begins with the remedy's name."""
    marks = tuple(f": {name}" for name in names)
    return [text for text in changes if any(mark in text for mark in marks)]


def counted(number: int) -> str:
    return "1 change was" if number == 1 else f"{number} changes were"


def remarks(one: Remedied) -> str:
    """Say what a remedy left as it was."""
    if one.notes:
        return "; ".join(one.notes)
    return "" if one.effects else NOT_MET
