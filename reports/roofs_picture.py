"""A machine's roofs as a picture: a bar for each, groups of one unit below each other.

The bar ends at the roof, the best that was seen; the mark in it is the median of the repeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.reports import figures, roofs_rows, wording
from speedprof.reports.parts import Column, Figure, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from speedprof.profiler.roofs.roofs import Roofs
    from speedprof.reports.roofs_rows import Group

ROW, TITLE, FOOT = 22, 34, 8  # user units
LEFT, RIGHT = 150, 150
THICK = 0.62  # of a row

NAME = "roofs"


def draw(roofs: Roofs) -> Figure | None:
    """Draw all roofs; None where none was measured."""
    found = roofs_rows.groups(roofs)
    if not found:
        return None
    title = "What this machine can do at best"
    count = sum(len(group.rows) for group in found)
    description = (
        f"{count} rates of {roofs.node}, each with the best that was seen as a bar and the median "
        f"of its repeats as a mark: {', '.join(group.title for group in found)}."
    )
    with figures.drawing(NAME):
        svg = _svg(found, title=title, description=description)
    return Figure(
        name=NAME,
        title=title,
        description=description,
        svg=svg,
        legend=(("fill-soft", "roof: the best that was seen"), ("stroke-accent", "median")),
        table=_table(found),
    )


def _svg(found: list[Group], *, title: str, description: str) -> str:
    height = FOOT + sum(TITLE + ROW * len(group.rows) for group in found)
    figure = figures.canvas(height)
    bottom = height
    for group in found:
        bottom -= TITLE + ROW * len(group.rows)
        axes = figures.axes(
            figure, left=LEFT, right=RIGHT, bottom=bottom, height=ROW * len(group.rows)
        )
        _plot(axes, group)
    return figures.finished(figure, name=NAME, title=title, description=description)


def _plot(axes: Axes, group: Group) -> None:
    rows = list(reversed(group.rows))
    highest = max(level.best for _, level in rows)
    axes.set_xlim(0, highest)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    half = THICK / 2
    bars = [(0.0, level.best, at - half, at + half) for at, (_, level) in enumerate(rows)]
    figures.boxes(axes, bars, "soft")
    for at, (_, level) in enumerate(rows):
        axes.plot(
            [level.median, level.median], [at - half, at + half],
            color=figures.INK["accent"], linewidth=2,
        )  # fmt: skip
        shown = f"{wording.number(level.best)} {group.unit}"
        place = (1, (at + 0.5) / len(rows))
        figures.note(axes, shown, at=place, offset=(8, -6), role="ink")
    figures.note(axes, group.title, at=(0, 1), offset=(6 - LEFT, 4), role="ink")


def _table(found: list[Group]) -> Table:
    return Table(
        caption="Roofs",
        columns=(
            Column("what"),
            Column("how"),
            Column("roof", "number"),
            Column("median", "number"),
            Column("worst", "number"),
            Column("repeats", "number"),
            Column("unit"),
        ),
        rows=tuple(
            (
                group.title,
                name,
                wording.number(level.best),
                wording.number(level.median),
                wording.number(level.worst),
                wording.count(level.repeats),
                group.unit,
            )
            for group in found
            for name, level in group.rows
        ),
    )
