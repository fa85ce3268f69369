"""The report on ceilings that were measured: what trials of the same script showed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler import trials
from speedprof.reports import wording
from speedprof.reports.parts import Column, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import Run
    from speedprof.profiler.run_whatif import MeasuredCeiling, Rate, TrialFact, WhatIf
    from speedprof.reports.parts import Cell

PLENTY = 9.95  # times; from there on no decimal is worth reading
FREE = {
    trials.REPLAYED: "data loading were free",
    trials.ON_DEVICE: "data loading and copies to the device were free",
    trials.NO_COMMUNICATION: "communication were free",
}
TRIALS = {
    trials.REAL: "as it is",
    trials.REPLAYED: "batches from memory",
    trials.ON_DEVICE: "batches from the device",
    trials.LOADER: "the loader alone",
    trials.NO_COMMUNICATION: "no communication",
}


def section(run: Run) -> Section | None:
    """Return the page's section; None where no trials were made."""
    found = run.whatif
    if found is None:
        return None
    notes = [note for trial in found.trials for note in trial.notes]
    told = [*sentences(found), *absent(found), *found.notes, *dict.fromkeys(notes)]
    if not found.finished:
        told.append("the trials were interrupted before the last one")
    return Section(
        name="whatif",
        title="Measured ceilings",
        lead=" ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in told),
        parts=(_table(found),),
    )


def sentence(run: Run) -> str | None:
    """Return the ceilings in one line; None where none was measured."""
    said = [
        f"if {FREE[one.kind]}: {ratio(one)}" for one in (run.whatif.ceilings if run.whatif else ())
    ]
    return f"{'; '.join(said)} (measured)" if said else None


def sentences(found: WhatIf) -> list[str]:
    """Return what the trials say, the ceilings first."""
    said = [f"if {FREE[one.kind]}: {ratio(one)} (measured)" for one in found.ceilings]
    rates = _rates(found)
    return said if rates is None else [*said, rates]


def absent(found: WhatIf) -> list[str]:
    """Return which trials tell nothing, and why."""
    return [f"not measured, {TRIALS[one.kind]}: {one.why}" for one in found.missing]


def ratio(one: MeasuredCeiling) -> str:
    digits = 2 if one.speedup < PLENTY else 0
    return f"{one.speedup:.{digits}f}× [{one.low:.{digits}f}, {one.high:.{digits}f}]"


def _rates(found: WhatIf) -> str | None:
    bound = found.bound()
    if bound is None or found.loader is None or found.training is None or found.real is None:
        return None
    return (
        f"the loader alone gives {_rate(found.loader)}, training alone takes "
        f"{_rate(found.training)}: together at most {_rate(bound)}, now {_rate(found.real)} "
        "(measured)"
    )


def _rate(one: Rate) -> str:
    return f"{wording.number(one.per_s)} {one.unit}/s"


def _table(found: WhatIf) -> Table:
    return Table(
        caption=f"{len(found.trials)} trials of one script, in their order",
        columns=(
            Column("trial"),
            Column("a step", "number"),
            Column("steps", "number"),
            Column("took", "number"),
            Column("remark"),
        ),
        rows=tuple(_row(trial) for trial in found.trials),
    )


def _row(trial: TrialFact) -> tuple[Cell, ...]:
    each = None if trial.step_ms is None else wording.ms(trial.step_ms)
    remarks = [trial.problem] if trial.problem else []
    return (
        TRIALS.get(trial.kind, trial.kind),
        each,
        wording.count(trial.steps),
        wording.seconds(trial.wall_s),
        "; ".join([*remarks, *trial.notes]),
    )
