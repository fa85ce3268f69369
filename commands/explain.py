"""`speedprof explain`: the remedies' cards, one by one, as a list or as the taxonomy's grid."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import click

from speedprof.commands.closing import colored, width

if TYPE_CHECKING:
    from speedprof.mitigations.mitigation import Mitigation

SAFETY_COLORS = {
    "exact": "green",
    "reseeded": "green",
    "rounding": "yellow",
    "changes_training": "red",
}
SAFETY_COLUMN = 18
TAXONOMY = "taxonomy"
NARROW = 100  # columns; below, the grid's cells would hold one word a line


@click.command("explain")
@click.argument("name", required=False)
@click.option(
    "--bottleneck",
    metavar="NAME",
    help="Only remedies of this phase or cause: data_loading, storage, 'host: launch'.",
)
@click.option(
    "--action",
    type=click.Choice(["remove", "restrict", "reorder", "replace", "retrofit", "system"]),
    help="Only remedies of this action; system: those that keep the training as it is.",
)
@click.option("--component", type=click.Choice(["function", "data", "optimization"]))
@click.option("--safety", type=click.Choice(list(SAFETY_COLORS)))
@click.option("--markdown", is_flag=True, help="The whole catalogue as a page.")
def command(
    *,
    name: str | None,
    bottleneck: str | None,
    action: str | None,
    component: str | None,
    safety: str | None,
    markdown: bool,
) -> None:
    """Explain the remedy NAME: what it does, when it helps, how safe it is. Or list them all.

    `speedprof explain taxonomy` shows where each one stands: five actions on three components.
    """
    filters = {"action": action, "component": component, "safety": safety}
    if (name is not None or markdown) and (bottleneck or any(filters.values())):
        raise click.UsageError("filters are for the list: leave the name and --markdown out")
    if markdown:
        from speedprof.mitigations.page import render

        click.echo(render(), nl=False)
        return
    if name == TAXONOMY:
        click.echo(_taxonomy(), color=colored(1))
        return
    text = _explained(name) if name else _listed(bottleneck, filters)
    click.echo(text, color=colored(1))


def _explained(name: str) -> str:
    from speedprof.mitigations.card import AGAINST, LABELS
    from speedprof.mitigations.catalogue import find
    from speedprof.mitigations.page import treated
    from speedprof.mitigations.trainers import patterns

    mitigation = find(name)
    lines = [click.style(mitigation.name, bold=True)]
    for line in mitigation.card.strip().splitlines():
        label, colon, rest = line.partition(":")
        known = bool(colon) and label in (*LABELS, AGAINST)
        lines.append(click.style(f"{label}:", fg="cyan") + rest if known else line)
    lines.append(click.style("Treats:", fg="cyan") + f" {treated(mitigation)}")
    for label, names in (("After", mitigation.after), ("Not with", mitigation.conflicts)):
        if names:
            lines.append(click.style(f"{label}:", fg="cyan") + f" {', '.join(names)}")
    for loop, pattern in patterns(name).items():
        lines.append(click.style(f"In {loop}:", fg="cyan") + f" {pattern}")
    return "\n".join(lines)


def _listed(bottleneck: str | None, filters: dict[str, str | None]) -> str:
    from speedprof.mitigations.catalogue import CATALOGUE
    from speedprof.mitigations.taxonomy import select

    asked = None if bottleneck is None else _bottleneck(bottleneck)
    chosen = select(CATALOGUE, bottleneck=asked, **filters)
    if not chosen:
        return "no remedy of the catalogue fits all of these filters; leave one out"
    column = max(len(mitigation.name) for mitigation in chosen) + 2
    lines = [_line(mitigation, column) for mitigation in chosen]
    count = f"{len(chosen)} of {len(CATALOGUE)} remedies" if len(chosen) < len(CATALOGUE) else ""
    last = "speedprof explain NAME shows one whole, speedprof explain taxonomy where each stands."
    return "\n".join([*lines, "", *([count] if count else []), last])


def _line(mitigation: Mitigation, column: int) -> str:
    summary = mitigation.card.strip().splitlines()[0]
    if mitigation.against:
        summary = f"(not advised) {summary}"
    safety = click.style(
        mitigation.safety.ljust(SAFETY_COLUMN), fg=SAFETY_COLORS[mitigation.safety]
    )
    room = max(20, width(1) - column - SAFETY_COLUMN) if sys.stdout.isatty() else len(summary)
    shown = summary if len(summary) <= room else summary[: room - 1] + "…"
    return click.style(mitigation.name.ljust(column), bold=True) + safety + shown


def _bottleneck(text: str) -> tuple[str, str | None]:
    """Understand "storage", "data_loading" and "data loading: storage"; raise UsageError."""
    from speedprof.advisor.finding import CAUSES

    words = [word.strip().replace(" ", "_").replace("-", "_") for word in text.split(":")]
    if len(words) == 2 and words[1] in CAUSES.get(words[0], ()):
        return words[0], words[1]
    if len(words) == 1 and words[0] in CAUSES:
        return words[0], None
    for phase, causes in CAUSES.items():
        if len(words) == 1 and words[0] in causes:
            return phase, words[0]
    known = "; ".join(f"{phase}: {', '.join(causes)}" for phase, causes in CAUSES.items())
    raise click.UsageError(f"no bottleneck is called {text!r}; there are {known}")


def _taxonomy() -> str:
    from rich.console import Console
    from rich.table import Table

    from speedprof.mitigations import taxonomy
    from speedprof.mitigations.catalogue import CATALOGUE
    from speedprof.mitigations.mitigation import ACTIONS, COMPONENTS

    cells = taxonomy.grid(CATALOGUE)
    table = Table(title="Remedies that change the training", show_lines=True, title_justify="left")
    table.add_column("")
    for component in COMPONENTS:
        table.add_column(f"{component}\n{taxonomy.MEANING[component]}", ratio=1)
    for action in ACTIONS:
        names = [_names(cells[action, component]) for component in COMPONENTS]
        table.add_row(f"{action}\n{taxonomy.MEANING[action]}", *names)
    keeping = Table(
        title="\nRemedies that keep it as it is (system)", show_lines=True, title_justify="left"
    )
    keeping.add_column("treats first")
    keeping.add_column("remedies", ratio=1)
    for phase, remedies in taxonomy.system(CATALOGUE).items():
        keeping.add_row(phase, _names(remedies))
    text = io.StringIO()
    console = Console(file=text, width=max(width(1), NARROW), highlight=False)
    console.print(table)
    console.print(keeping)
    note = "\n* not advised: published evidence says that it does not pay"
    return text.getvalue() + (note if any(one.against for one in CATALOGUE) else "")


def _names(remedies: list[Mitigation]) -> str:
    return ", ".join(one.name + ("*" if one.against else "") for one in remedies) or "-"
