"""How each remedy is applied to each script of the scoreboard: by argument, or by other lines.

A change is made to a copy of the script: each old text must be there, exactly once, and is
replaced by the new one; `<name>` in it stands for the parameter of that name that the advice
gives. Where that makes something rare, the script gets more steps: one checkpoint in 196 of 100
steps would be none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class ChangeError(Exception):
    """A script does not have the text that a change is for; says which."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What somebody who follows the advice does to one script."""

    words: str
    texts: tuple[tuple[str, str], ...] = ()  # old, new
    arguments: tuple[str, ...] = ()


def lines(words: str, *texts: tuple[str, str], arguments: tuple[str, ...] = ()) -> Change:
    """Return a change of lines, old and new, and of arguments where it needs some."""
    return Change(words=words, texts=texts, arguments=arguments)


def on_threads(count: int) -> Change:
    """Return the change that lets a script compute with so many threads."""
    old = "    torch.manual_seed("
    new = f"    torch.set_num_threads({count})\n{old}"
    return lines(f"{count} compute thread{'s' if count > 1 else ''}", (old, new))


def applied(source: str, change: Change, parameters: Mapping[str, object]) -> str:
    """Return the script with the change made; raises ChangeError where a text is not there."""
    for old, new in change.texts:
        if source.count(old) != 1:
            count = source.count(old)
            raise ChangeError(f"the script has this text {count} times, not once: {old!r}")
        source = source.replace(old, filled(new, parameters))
    return source


def filled(text: str, parameters: Mapping[str, object]) -> str:
    """Return the text with each `<name>` replaced by the advice's value."""
    for name, value in parameters.items():
        text = text.replace(f"<{name}>", str(value))
    return text


def copied(
    script: Path, changes: Sequence[Change], parameters: Mapping[str, object], to: Path
) -> Path:
    """Write a copy of the script with the changes made; return its path."""
    source = script.read_text(encoding="utf-8")
    for change in changes:
        source = applied(source, change, parameters)
    to.mkdir(parents=True, exist_ok=True)
    path = to / script.name
    path.write_text(source, encoding="utf-8")
    return path
