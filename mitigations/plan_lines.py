"""The TOML that plans are made of, for a Python 3.10 that has no reader of TOML.

Tables with dotted names, comments, and a value a line: text, true or false, a number. What TOML
has beyond that is refused by its line.
"""

from __future__ import annotations

import re
from typing import Any

Scalar = bool | int | float | str

_END = r"\s*(?:#.*)?\Z"
_NAME = r"[A-Za-z0-9_-]+"
_TABLE = re.compile(rf"\s*\[\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*\]{_END}")
_VALUE = re.compile(rf"\s*({_NAME})\s*=\s*(\"(?:[^\"\\]|\\[\"\\])*\"|'[^']*'|[^\s\"'#]+){_END}")
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def loads(text: str) -> dict[str, Any]:
    """Return the tables of a plan; raise ValueError, naming the line, where it is none."""
    whole: dict[str, Any] = {}
    table, opened = whole, set[str]()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        header, pair = _TABLE.match(line), _VALUE.match(line)
        if header is not None:
            name = "".join(header.group(1).split())
            table = _opened(whole, [] if name in opened else name.split("."), number)
            opened.add(name)
        elif pair is not None and pair.group(1) not in table:
            table[pair.group(1)] = _value(pair.group(2), number)
        elif line.strip() and not line.lstrip().startswith("#"):
            raise _refused(number)
    return whole


def _opened(whole: dict[str, Any], parts: list[str], number: int) -> dict[str, Any]:
    """Return the table of this name, made where there is none."""
    table: dict[str, Any] = whole
    for part in parts:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise _refused(number)
        table = inner
    if table is whole:
        raise _refused(number)  # opened before
    return table


def _value(word: str, number: int) -> Scalar:
    if word[0] == "'":
        return word[1:-1]
    if word[0] == '"':
        return re.sub(r"\\([\"\\])", r"\1", word[1:-1])
    if word in ("true", "false"):
        return word == "true"
    if _INTEGER.fullmatch(word):
        return int(word)
    if _FLOAT.fullmatch(word):
        return float(word)
    raise _refused(number)


def _refused(number: int) -> ValueError:
    return ValueError(
        f"line {number} is none of a plan's; if it is TOML, `pip install tomli` reads it"
    )
