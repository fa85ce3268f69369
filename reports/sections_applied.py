"""The remedies that were in force: a section of the page, and one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        (one.name, _parameters(one), str(one.effects), _remarks(one)) for one in run.applied
    )
    table = Table(caption="Remedies in force", columns=columns, rows=rows)
    lead = "These were applied by a plan, so the figures of this run are those with them."
    return Section(name="applied", title="Remedies in force", lead=lead, parts=(table,))


def sentence(run: Run) -> str | None:
    """Say in one line which remedies had an effect, and which had none and why."""
    if not run.applied:
        return None
    worked = [one.name for one in run.applied if one.effects]
    idle = [one for one in run.applied if not one.effects]
    said = [f"in force: {', '.join(worked)}"] if worked else []
    said += [f"{one.name} had no effect ({_remarks(one)})" for one in idle]
    return "; ".join(said)


def _remarks(one: InForce) -> str:
    if one.notes:
        return "; ".join(one.notes)
    return "" if one.effects else "what it changes was not met in this run"


def _parameters(one: InForce) -> str:
    return ", ".join(f"{name}={value}" for name, value in one.parameters.items())
