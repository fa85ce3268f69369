"""What a tuning leaves behind: the plan, and what was tried, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from speedprof import __version__
from speedprof.mitigations.plan_files import PlanFile, write
from speedprof.mitigations.tuning.decision import Speedup
from speedprof.mitigations.tuning.tuned import Tried, Tuned
from speedprof.profiler import run_folder, run_tuning
from speedprof.profiler.run_tuning import PlanRemedy, Range, Ratio, TriedRemedy, Tuning

PLAN = "plan.toml"


def save(tuned: Tuned, *, machine: str | None, torch: str | None) -> Path | None:
    """Write both files; return the plan's, None where nothing was kept. Raises OSError."""
    text = msgspec.json.format(msgspec.json.encode(told(tuned)), indent=1).decode() + "\n"
    under_plan = tuned.after if tuned.after != tuned.before else None
    for folder in (tuned.folder, under_plan):
        if folder is not None:
            run_folder.write(folder / run_tuning.FILE, text)
    if not tuned.plan:
        return None
    plan = PlanFile(remedies=tuned.plan, made_by=__version__, machine=machine, torch=torch)
    run_folder.write(tuned.folder / PLAN, write(plan))
    return tuned.folder / PLAN


def told(tuned: Tuned) -> Tuning:
    """Return the outcome as it is kept."""
    return Tuning(
        format=run_tuning.FORMAT,
        ended=tuned.ended,
        plan=[PlanRemedy(name=one.name, parameters=dict(one.parameters)) for one in tuned.plan],
        speedup=_ratio(tuned.total),
        before=tuned.before.name if tuned.before else None,
        after=tuned.after.name if tuned.after else None,
        tried=[_tried(one) for one in tuned.tried],
    )


def _tried(one: Tried) -> TriedRemedy:
    gain = one.predicted
    return TriedRemedy(
        name=one.remedy.name,
        parameters=dict(one.remedy.parameters),
        predicted=Range(low=gain.low, high=gain.high) if gain is not None else None,
        measured=_ratio(one.measured),
        proved=one.proof.passed if one.proof is not None else None,
        proof=one.proof.sentence if one.proof is not None else None,
        kept=one.kept,
        why=one.why,
        trials=list(one.trials),
    )


def _ratio(found: Speedup | None) -> Ratio | None:
    if found is None:
        return None
    return Ratio(ratio=found.ratio, low=found.low, high=found.high)
