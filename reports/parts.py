"""What a page is made of: sections that hold facts, tables, figures and code."""

from __future__ import annotations

from dataclasses import dataclass, field

Cell = str | float | None  # None: not measured


@dataclass(frozen=True, slots=True)
class Column:
    label: str
    kind: str = "text"  # "text", "number", "code", "phase" or "bar" (a share, 0..1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kind: str = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names and values, side by side."""

    pairs: tuple[tuple[str, str], ...]
    kind: str = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture with its text alternative: the sentence, and the numbers as a table."""

    name: str  # unique on the page, starts its ids
    title: str
    description: str
    svg: str  # inline, coloured by the page's style sheet
    legend: tuple[tuple[str, str], ...]  # (class, label)
    table: Table
    kind: str = "figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading of the page; a section without parts is not made at all."""

    name: str
    title: str
    lead: str = ""
    parts: tuple[Table | Facts | Figure, ...] = field(default=())
