"""The remedies that were in force: a section of the page, and one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.mitigations.applied import words
from speedprof.reports.parts import Column, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import InForce, Run


def applied(run: Run) -> Section | None:
    """List the remedies of the plan, what each changed and what it left as it was."""
    if not run.applied:
        return None
    columns = (
        Column("remedy", "code"),
        Column("parameters", "code"),
        Column("changes"),
        Column("remarks"),
    )
    rows = tuple(
        (one.name, _parameters(one), str(one.effects), words.remarks(one)) for one in run.applied
    )
    table = Table(caption="Remedies in force", columns=columns, rows=rows)
    lead = "These were applied by a plan, so the figures of this run are those with them."
    number = len(words.live(run.changes, [one.name for one in run.applied if one.effects]))
    said = f"{words.counted(number)} in force. {lead}" if number else lead
    return Section(name="applied", title="Remedies in force", lead=said, parts=(table,))


def sentence(run: Run) -> str | None:
    """Say in one line which remedies had an effect, and which had none and why."""
    return words.sentence(run.applied, run.changes) if run.applied else None


def by_dali(run: Run, most: int) -> list[str]:
    """Say what DALI made of the transforms, a sentence a loader; nothing where it made none."""
    tables = words.tables(run.applied)
    more = [f"{len(tables) - most} more on the page"] if len(tables) > most else []
    return [*tables[:most], *more, words.DALI_REMARK] if tables else []


def _parameters(one: InForce) -> str:
    return ", ".join(f"{name}={value}" for name, value in one.parameters.items())
