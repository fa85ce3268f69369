"""What came of a plan, in one sentence: the same in a script's own words and in a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

OWN_ARGUMENT = "the script gives"  # begins the note that asks for a value by name
NOT_MET = "what it changes was not met in this run"
DALI_TABLE = "through DALI"  # in the note that tells what each transform of a loader became
DALI_AS_ONE = "DALI runs the transforms of a loader as one, so none has a time of its own"
DALI_NEAR = (
    "± tells the grey levels (of 255) that 99 of 100 values keep to, 0 where it is not given"
)
DALI_REMARK = f"{DALI_AS_ONE}; {DALI_NEAR}"  # how that note ends


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


def tables(remedies: Iterable[Remedied]) -> list[str]:
    """Return, for each loader that DALI made batches of, what became of its transforms."""
    notes = [note for one in remedies if one.effects for note in one.notes]
    return [note.removesuffix(f". {DALI_REMARK}") for note in notes if note.endswith(DALI_REMARK)]
