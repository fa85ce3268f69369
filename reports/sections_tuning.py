"""How the plan of a run was found: a section of the page, and one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.reports.parts import Column, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import Run
    from speedprof.profiler.run_tuning import Ratio, TriedRemedy

TITLE = "How this plan was found"


def tuning(run: Run) -> Section | None:
    """List what was tried: predicted, measured, proved, kept or why not."""
    found = run.tuning
    if found is None:
        return None
    columns = (
        Column("remedy", "code"),
        Column("predicted"),
        Column("measured"),
        Column("kept"),
        Column("why"),
    )
    table = Table(caption="Remedies tried", columns=columns, rows=tuple(map(_row, found.tried)))
    return Section(name="tuning", title=TITLE, lead=_lead(run), parts=(table,))


def sentence(run: Run) -> str | None:
    """Say what the whole plan gained, measured against the script as it is."""
    if run.tuning is None or run.tuning.speedup is None:
        return None
    return f"with its plan it is {ratio(run.tuning.speedup)} as fast (measured)"


def ratio(found: Ratio) -> str:
    """Show a ratio with its interval: "1.82x [1.75, 1.90]"."""
    return f"{found.ratio:.2f}x [{found.low:.2f}, {found.high:.2f}]"


def _lead(run: Run) -> str:
    told = sentence(run)
    start = f"{told[0].upper()}{told[1:]}. " if told else ""
    ended = run.tuning.ended if run.tuning else ""
    return f"{start}Trials with and without each remedy took turns; they ended because {ended}."


def _row(one: TriedRemedy) -> tuple[str, str | None, str | None, str, str]:
    inside = ", ".join(f"{name}={value}" for name, value in one.parameters.items())
    gain = one.predicted
    return (
        f"{one.name} ({inside})" if inside else one.name,
        f"{gain.low:.2f}–{gain.high:.2f}x" if gain is not None else None,
        ratio(one.measured) if one.measured is not None else None,
        "yes" if one.kept else "no",
        one.why,
    )
