"""What a set of trials amounts to: rates, ceilings, and notes where a trial could not tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from speedprof.profiler import measured_ceilings as measured
from speedprof.profiler import trials
from speedprof.profiler.run_whatif import Missing, Rate, TrialFact, WhatIf

if TYPE_CHECKING:
    from speedprof.profiler.measured_ceilings import Series
    from speedprof.profiler.run_whatif import MeasuredCeiling
    from speedprof.profiler.whatif import Outcome, Trial

DRIFT = 0.1  # real trials that differ by more make the ratios hard to believe
MUCH_HANDOUT = 0.02  # of a step: copying kept batches costs so much that it is worth saying
BEYOND = 1.05  # real rate over the lesser of its parts'

CHANGED = (trials.REPLAYED, trials.ON_DEVICE, trials.NO_COMMUNICATION)


def conclude(outcome: Outcome) -> WhatIf:
    """Return all that the trials made so far tell."""
    told = _levelled({kind: _series(outcome.of(kind)) for kind in trials.KINDS})
    real = told[trials.REAL]
    counted = [part for parts in told.values() for part in parts]
    unit = measured.unit_of(counted)
    found = WhatIf(
        name=outcome.order.name or outcome.order.target.name,
        command=[os.fsencode(part).decode("utf-8", "replace") for part in _command(outcome)],
        finished=outcome.finished,
        trials=[_fact(trial) for trial in outcome.trials],
        real=_rate(real, unit),
        training=_rate(told[trials.REPLAYED], unit),
        loader=_rate(told[trials.LOADER], unit),
        ceilings=_ceilings(real, told),
        missing=_missing(outcome),
        notes=_drift(real),
    )
    return _checked(found)


def _command(outcome: Outcome) -> tuple[str, ...]:
    return outcome.order.target.command


def _series(made: Sequence[Trial]) -> list[Series]:
    """Return what trials with enough steps measured, without what they cost themselves."""
    known = [
        trial.series
        for trial in made
        if trial.series is not None and len(trial.series.wall_ms) >= measured.FEWEST
    ]
    return [_own_cost_off(one) for one in known]


def _levelled(told: dict[str, list[Series]]) -> dict[str, list[Series]]:
    """Give all trials the same evaluation and checkpoints: the real trials' mean, every step."""
    if not told[trials.REAL]:
        return told
    each_ms = measured.joined(told[trials.REAL]).outside_a_step_ms
    return {kind: [one.with_outside(each_ms) for one in made] for kind, made in told.items()}


def _own_cost_off(one: Series) -> Series:
    replayed = one.fact.get("kind") in (trials.REPLAYED, trials.ON_DEVICE)
    return one.without_handout() if replayed and one.device == "cpu" else one


def _rate(parts: Sequence[Series], unit: str) -> Rate | None:
    return measured.rate(measured.joined(parts), unit) if parts else None


def _ceilings(real: Sequence[Series], told: dict[str, list[Series]]) -> list[MeasuredCeiling]:
    if not real:
        return []
    return [measured.ceiling(kind, real, told[kind]) for kind in CHANGED if told[kind]]


def _fact(trial: Trial) -> TrialFact:
    one = trial.series
    told = _own_cost_off(one) if one is not None else None
    replays = trial.kind in (trials.REPLAYED, trials.ON_DEVICE)
    handout = float(one.handout_ms.sum() / max(one.steps, 1)) if one and replays else None
    notes = [str(note) for note in one.fact.get("notes", ())] if one is not None else []
    if one is not None and handout is not None and one.device != "cpu":
        part = handout / one.step_ms if one.step_ms else 0.0
        if part > MUCH_HANDOUT:
            notes.append(
                f"copying the kept batch takes {part:.0%} of a step, which the ratio holds; "
                "the ceiling may lie so much higher"
            )
    return TrialFact(
        kind=trial.kind,
        folder=trial.folder.name,
        wall_s=round(trial.wall_s, 3),
        steps=one.steps if one is not None else 0,
        step_ms=told.step_ms if told is not None and told.steps else None,
        handout_ms=handout,
        problem=trial.problem,
        notes=notes,
    )


def _missing(outcome: Outcome) -> list[Missing]:
    found = [Missing(kind=kind, why=why) for kind, why in outcome.missing.items()]
    for kind in trials.KINDS:
        made = outcome.of(kind)
        if made and not _series(made):
            why = next((trial.problem for trial in made if trial.problem), "it was interrupted")
            found.append(Missing(kind=kind, why=why))
    return found


def _drift(real: Sequence[Series]) -> list[str]:
    means = [part.step_ms for part in real]
    if len(means) < 2 or min(means) <= 0 or max(means) / min(means) <= 1 + DRIFT:
        return []
    apart = max(means) / min(means) - 1
    note = (
        f"the real trials differ by {apart:.0%}: the machine was not steady; "
        "repeat on an idle one, or with --rounds 3"
    )
    return [note]


def _checked(found: WhatIf) -> WhatIf:
    """Say where the real rate is more than its parts allow: the trials measured two things."""
    bound = found.bound()
    if bound is None or found.real is None or found.real.per_s <= BEYOND * bound.per_s:
        return found
    note = (
        "the real rate is above what its parts alone reached: the loader was faster in training "
        "than alone (files cached by then, or a new epoch's start)"
    )
    return msgspec.structs.replace(found, notes=[*found.notes, note])
