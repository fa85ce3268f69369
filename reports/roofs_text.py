"""A machine's roofs in the terminal: a table with a bar for each."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from speedprof.reports import roofs_rows, wording
from speedprof.reports.escape import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from speedprof.profiler.roofs.roofs import Level, Roofs
    from speedprof.reports.roofs_rows import Group

NARROWEST, WIDEST = 60, 100  # columns
BAR = 24
COLOR = "#7ea6dd"  # of the page's dark palette


def render(roofs: Roofs, *, width: int = 80, color: bool = False) -> str:
    """Return lines for a terminal."""
    console = _console(min(max(width, NARROWEST), WIDEST), color=color)
    console.print(_text(roofs_rows.machine_line(roofs), "bold"))
    best = "a roof is the best that was seen"
    console.print(_text(f"{roofs_rows.measured_line(roofs)}; {best}", "dim"))
    console.print()
    console.print(_table(roofs))
    gaps = [f"{what} ({why})" for what, why in roofs_rows.missing(roofs)]
    if gaps:
        console.print()
        console.print(_text(f"Not measured: {'; '.join(gaps)}", "dim"))
    for remark in roofs_rows.remarks(roofs):
        console.print(_text(f"Note: {remark}", "yellow"))
    written: io.StringIO = console.file  # type: ignore[assignment]
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _console(width: int, *, color: bool) -> Console:
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )


def _text(content: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(content), style=style)


def _table(roofs: Roofs) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column("", ratio=1, overflow="fold")
    table.add_column("", width=BAR)
    for name in ("roof", "median", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", style="dim", no_wrap=True)
    for group in roofs_rows.groups(roofs):
        table.add_row(_text(group.title, "bold"))
        for name, level in group.rows:
            table.add_row(*_row(group, name, level))
    return table


def _row(group: Group, name: str, level: Level) -> tuple[Text, ...]:
    highest = max(one.best for _, one in group.rows)
    numbers = (level.best, level.median, level.worst)
    return (
        _text(f"  {name}"),
        _text("█" * max(1, round(BAR * level.best / highest)), COLOR),
        *(_text(wording.number(value)) for value in numbers),
        _text(group.unit),
    )
