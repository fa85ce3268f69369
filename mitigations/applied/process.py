"""The training process as remedies see it: what they change, and what came of it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from speedprof.mitigations.applied.automatic import AUTOMATIC, Automatic
from speedprof.mitigations.applied.words import OWN_ARGUMENT
from speedprof.profiler import machine_name
from speedprof.profiler.fence import Fence
from speedprof.profiler.patches import Patches

Arguments = dict[str, Any]
Wanted = Callable[[Arguments], Arguments]  # from the script's own arguments
Settle = Callable[[Arguments], Arguments]
Said = Callable[[Arguments], Arguments]
Waiting = dict[str, Callable[[ModuleType], None]]
MOST_NOTES = 20  # of one remedy
REFUSALS = (  # of other arguments; a warning is one where the script makes errors of them
    TypeError, ValueError, RuntimeError, NotImplementedError, Warning,
)  # fmt: skip


class Applied:
    """One remedy in force: how often it changed something, and what it could not change."""

    def __init__(self, name: str, parameters: dict[str, Any], named: frozenset[str]) -> None:
        self.name = name
        self.parameters = parameters
        self.named = named  # parameters that the plan gives by name: they win over the script's
        self.effects = 0
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(text)

    def fact(self) -> dict[str, object]:
        return {
            "name": self.name,
            "parameters": self.parameters,
            "effects": self.effects,
            "notes": self.notes,
        }


class Process:
    """What a remedy's `apply` is given."""

    def __init__(
        self, fence: Fence, waiting: Waiting, proved: Mapping[str, str] | None = None
    ) -> None:
        self.patches = Patches()
        self.fence = fence
        self.waiting = waiting
        self.proved = dict(proved or {})  # the machine and the torch that the plan was proved with
        self.applied: list[Applied] = []
        self.at_end: list[Callable[[], object]] = []  # what tells how it went

    def apply(self, plan: list[dict[str, Any]]) -> None:
        """Put every remedy of the plan in force; one that fails is noted, the others go on.

        Whoever is applied last is asked first: the number of workers is settled before what
        depends on it.
        """
        order = list(AUTOMATIC)
        for entry in sorted(plan, key=lambda one: order.index(one["name"]), reverse=True):
            self.fence.guard(f"remedy {entry.get('name')}", self._apply)(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        known = AUTOMATIC[entry["name"]]
        given = entry.get("parameters", {})
        one = Applied(known.name, chosen(known, given), frozenset(given))
        self.applied.append(one)
        module = importlib.import_module(f"speedprof.mitigations.applied.{known.module}")
        module.apply(self, one)

    def finish(self) -> list[dict[str, object]]:
        """Return what came of each remedy, as facts."""
        for tell in self.at_end:
            self.fence.guard("remedies: how it went", tell)()
        return [one.fact() for one in self.in_order()]

    def in_order(self) -> list[Applied]:
        """Return what is in force in the order of the remedies, not of their being applied."""
        order = list(AUTOMATIC)
        return sorted(self.applied, key=lambda one: order.index(one.name))

    def told(self) -> list[tuple[str, dict[str, object]]]:
        """Return what the record keeps, each fact with its kind; to be asked before `undo`."""
        facts = [("applied", fact) for fact in self.finish()]
        facts += [("change", {"text": text}) for text in self.patches.texts()]
        doubt = self.fence.guard("plan: machine", self._doubt)()
        return [*facts, ("note", {"text": doubt})] if doubt else facts

    def _doubt(self) -> str | None:
        import torch

        if not self.proved:
            return None
        here, version = machine_name.here(), str(torch.__version__)
        return machine_name.doubt(self.proved, here=here, torch=version)

    def changed(self, text: str, undo: Callable[[], object]) -> None:
        """Remember a change that is no attribute's; `text` is how the report lists it."""
        target, _, reason = text.partition(": ")
        self.patches.hook(_Undo(undo), target, reason=reason)

    def undo(self) -> list[str]:
        """Take every change back, last first; return a sentence for each that had to stay."""
        return self.patches.undo()


class _Undo:
    """A change whose undoing is a function."""

    def __init__(self, undo: Callable[[], object]) -> None:
        self._undo = undo

    def remove(self) -> None:
        self._undo()


def chosen(known: Automatic, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a remedy's parameters: those of the plan, and the defaults of the others."""
    defaults = {name: parameter.default for name, parameter in known.parameters.items()}
    return {name: value for name, value in {**defaults, **given}.items() if value is not None}


def arguments(
    one: Applied,
    what: str,
    build: Any,
    call: tuple[Any, Any],
    wanted: Wanted,
    *,
    settle: Settle = dict,
    said: Said = dict,
) -> bool:
    """Build something of the script's with other arguments; return whether that was done.

    `wanted(explicit)` gives the keywords to change; an argument of the script's own is changed
    only where the plan names it. `said(explicit)` leaves those that are the script's own;
    `settle(changes)` adds what has to go with the changes that remain.
    Where changed arguments are refused, the script's are used.
    """
    positional, keywords = call
    explicit = said(explicit_arguments(build, positional, keywords))
    changes = wanted(explicit)
    changes = {n: v for n, v in changes.items() if explicit.get(n, inspect.Parameter.empty) != v}
    for name in [n for n in changes if n in explicit]:
        if name not in one.named:
            one.note(f"{OWN_ARGUMENT} {name} of {what} itself; name it in the plan to change it")
            del changes[name]
    if not changes:
        return False
    changes = settle(changes)
    try:
        build(*positional, **{**keywords, **changes})
    except REFUSALS as error:
        one.note(f"{what} refused {_shown(changes)} ({error}); it is built as the script says")
        return False
    one.effects += 1
    return True


def explicit_arguments(build: Any, positional: Any, keywords: Any) -> dict[str, Any]:
    """Return the arguments that the script gives, by name; none where the call is wrong."""
    try:
        bound = inspect.signature(build).bind_partial(*positional, **keywords)
    except TypeError:
        return dict(keywords)
    return dict(bound.arguments)


def _shown(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in changes.items())
