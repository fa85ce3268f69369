"""The list of live changes to the user's process: each with its reason, undone last first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

ABSENT: Any = object()


class Handle(Protocol):
    """What torch's own hooks return."""

    def remove(self) -> None: ...


@dataclass(frozen=True)
class Change:
    """One live change; `text` is how the report lists it."""

    text: str
    undo: Callable[[], str | None]  # returns a sentence where it could not be undone wholly
    is_on_top: Callable[[], bool]  # nobody has patched over it


class Patches:
    """Everything that alters the user's process goes through one of these."""

    def __init__(self) -> None:
        self._changes: list[Change] = []

    def replace(self, owner: Any, name: str, new: Any, *, reason: str) -> Any:
        """Set `owner.name` to `new` and return what it was."""
        raw = vars(owner).get(name, ABSENT)  # raw, so a staticmethod comes back as one
        original = getattr(owner, name)
        setattr(owner, name, new)

        def is_on_top() -> bool:
            return vars(owner).get(name, ABSENT) is new

        def undo() -> str | None:
            if not is_on_top():
                return (
                    f"{_named(owner)}.{name} was changed by somebody else meanwhile; theirs stays"
                )
            if raw is ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, raw)
            return None

        self._changes.append(Change(f"{_named(owner)}.{name}: {reason}", undo, is_on_top))
        return original

    def hook(self, handle: Handle, target: str, *, reason: str) -> None:
        """Remember a hook that has a handle of its own."""
        self._changes.append(Change(f"{target}: {reason}", lambda: handle.remove(), lambda: True))

    def texts(self) -> list[str]:
        return [change.text for change in self._changes]

    def are_on_top(self) -> bool:
        """Tell whether all of them could be undone now."""
        return all(change.is_on_top() for change in self._changes)

    def undo(self) -> list[str]:
        """Undo everything, last first.

        Return a sentence for each change that somebody patched over: it stays on the list, for
        when theirs is gone.
        """
        remarks = []
        stuck = []
        while self._changes:
            change = self._changes.pop()
            remark = change.undo()
            if remark:
                remarks.append(remark)
                stuck.append(change)
        self._changes = stuck[::-1]
        return remarks


def _named(owner: Any) -> str:
    module = getattr(owner, "__module__", None)
    name = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", type(owner).__name__)
    return f"{module}.{name}" if module else str(name)
