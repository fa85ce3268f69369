"""The page on the plan: which remedies go together, and the step that they would leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler.run import PHASES
from speedprof.reports import plan_words, wording
from speedprof.reports.parts import Column, Section, Table

if TYPE_CHECKING:
    from speedprof.mitigations.plans import Plan
    from speedprof.profiler.run import Phase
    from speedprof.reports.parts import Cell
    from speedprof.reports.view import View


def plan(view: View) -> Section | None:
    """Show what the remedies of the plan leave of the step; it stands among the remedies."""
    made = view.outlook.plan if view.outlook is not None else None
    if made is None or len(made.names) < 2 or view.run.phases is None:
        return None
    return Section(
        name="plan",
        title=f"Together: {plan_words.faster(made.gain)}",
        lead=f"{_order(made)}. Then {plan_words.leads(made.gain)}. Remedies for the same thing "
        "act on what the others leave of it, and work that was hidden comes to light.",
        parts=(_table(made, view.run.phases),),
    )


def _order(made: Plan) -> str:
    first, *others = made.names
    return f"{first} first, then {', '.join(others)}"


def _table(made: Plan, phases: dict[str, Phase]) -> Table:
    left = made.gain.phases
    rows: list[tuple[Cell, ...]] = [
        (name, wording.ms(phases[name].ms), _span(*left[name]))
        for name in PHASES
        if phases[name].ms > 0 or max(left[name]) > 0
    ]
    whole = [sum(left[name][end] for name in PHASES) for end in (0, 1)]
    now = sum(phase.ms for phase in phases.values())
    return Table(
        caption="One step now, and after all of the plan",
        columns=(Column("phase", "phase"), Column("now", "number"), Column("then", "number")),
        rows=(*rows, ("the step", wording.ms(now), _span(*whole))),
    )


def _span(first: float, second: float) -> str:
    low, high = sorted((first, second))
    if wording.ms(low) == wording.ms(high):
        return wording.ms(high)
    return f"{wording.number(low)}–{wording.ms(high)}"
