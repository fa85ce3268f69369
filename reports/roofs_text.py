"""A machine's roofs in the terminal: a table with a bar for each."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from speedprof.reports import roofs_rows, wording
from speedprof.reports.terminal import in_memory, safe

if TYPE_CHECKING:
    from rich.console import Console

    from speedprof.profiler.roofs.roofs import Roofs
    from speedprof.reports.roofs_rows import Group

NARROWEST, WIDEST = 60, 100  # columns
LABEL, NUMBER = 17, 11
_RIGHT = 3 * NUMBER  # columns of the three numbers
COLOR = "#7ea6dd"  # of the page's dark palette


def render(roofs: Roofs, *, width: int = 80, color: bool = False) -> str:
    """Return lines for a terminal."""
    console = in_memory(min(max(width, NARROWEST), WIDEST), color=color)
    console.print(safe(roofs_rows.machine_line(roofs), "bold"))
    best = "a roof is the best that was seen"
    console.print(safe(f"{roofs_rows.measured_line(roofs)}; {best}", "dim"))
    console.print()
    console.print(
        safe(
            f"{'roof':>{console.width - 2 * NUMBER}}{'median':>{NUMBER}}{'worst':>{NUMBER}}", "dim"
        )
    )
    for group in roofs_rows.groups(roofs):
        _group(console, group)
    gaps = [f"{what} ({why})" for what, why in roofs_rows.missing(roofs)]
    if gaps:
        console.print()
        console.print(safe(f"Not measured: {'; '.join(gaps)}", "dim"))
    for remark in roofs_rows.remarks(roofs):
        console.print(safe(f"Note: {remark}", "yellow"))
    written: io.StringIO = console.file  # type: ignore[assignment]
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _group(console: Console, group: Group) -> None:
    """Print a title and a line for each rate, the bars as parts of the group's best."""
    highest = max(level.best for _, level in group.rows)
    space = console.width - len(group.unit) - 1
    title = safe(_fitted(group.title, space).ljust(space + 1), "bold")
    console.print(title.append(group.unit, "dim"))
    room = console.width - LABEL - _RIGHT
    for name, level in group.rows:
        bar = "█" * max(1, round((room - 2) * level.best / highest))
        line = safe(f"  {_fitted(name, LABEL - 3)}".ljust(LABEL))
        line.append(bar.ljust(room), COLOR)
        line.append(f"{wording.number(level.best):>{NUMBER}}", "bold")
        line.append(f"{wording.number(level.median):>{NUMBER}}")
        line.append(f"{wording.number(level.worst):>{NUMBER}}", "dim")
        console.print(line, no_wrap=True, overflow="crop")


def _fitted(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
