"""`speedprof explain`: the remedies' cards, one by one or as a list."""

from __future__ import annotations

import click

from speedprof.commands.closing import colored, width

SAFETY_COLORS = {
    "exact": "green",
    "reseeded": "green",
    "rounding": "yellow",
    "changes_training": "red",
}


@click.command("explain")
@click.argument("name", required=False)
def command(*, name: str | None) -> None:
    """Explain the remedy NAME: what it does, when it helps, how safe it is. Or list them all."""
    text = _listed() if name is None else _explained(name)
    click.echo(text, color=colored(1))


def _explained(name: str) -> str:
    from speedprof.mitigations.card import LABELS
    from speedprof.mitigations.catalogue import find

    mitigation = find(name)
    lines = [click.style(mitigation.name, bold=True)]
    for line in mitigation.card.strip().splitlines():
        label, colon, rest = line.partition(":")
        known = bool(colon) and label in LABELS
        lines.append(click.style(f"{label}:", fg="cyan") + rest if known else line)
    return "\n".join(lines)


def _listed() -> str:
    from speedprof.mitigations.catalogue import CATALOGUE

    column = max(len(mitigation.name) for mitigation in CATALOGUE) + 2
    lines = []
    for mitigation in CATALOGUE:
        summary = mitigation.card.strip().splitlines()[0]
        safety = click.style(mitigation.safety.ljust(18), fg=SAFETY_COLORS[mitigation.safety])
        name = click.style(mitigation.name.ljust(column), bold=True)
        room = max(20, width(1) - column - 18)
        shown = summary if len(summary) <= room else summary[: room - 1] + "…"
        lines.append(name + safety + shown)
    return "\n".join([*lines, "", "speedprof explain NAME shows one whole."])
