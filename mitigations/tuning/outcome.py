"""What a tuning leaves behind: the plan, and what was tried, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

from speedprof import __version__
from speedprof.mitigations.plan_files import PlanFile, write
from speedprof.mitigations.tuning.decision import Speedup
from speedprof.mitigations.tuning.tuner import Tried, Tuned
from speedprof.profiler import run_folder

PLAN, TOLD = "plan.toml", "tune.json"
FORMAT = 1


def save(tuned: Tuned, *, machine: str | None, torch: str | None) -> Path | None:
    """Write both files; return the plan's, None where nothing was kept. Raises OSError."""
    run_folder.write(tuned.folder / TOLD, json.dumps(told(tuned), indent=1) + "\n")
    if not tuned.plan:
        return None
    plan = PlanFile(remedies=tuned.plan, made_by=__version__, machine=machine, torch=torch)
    run_folder.write(tuned.folder / PLAN, write(plan))
    return tuned.folder / PLAN


def told(tuned: Tuned) -> dict[str, object]:
    """Return the outcome as JSON has it; ratios are old step / new step."""
    return {
        "format": FORMAT,
        "ended": tuned.ended,
        "plan": [{"name": one.name, "parameters": dict(one.parameters)} for one in tuned.plan],
        "speedup": _speedup(tuned.total),
        "before": tuned.before.name if tuned.before else None,
        "after": tuned.after.name if tuned.after else None,
        "tried": [_tried(one) for one in tuned.tried],
    }


def _tried(one: Tried) -> dict[str, object]:
    gain = one.predicted
    return {
        "name": one.remedy.name,
        "parameters": dict(one.remedy.parameters),
        "predicted": {"low": gain.low, "high": gain.high} if gain is not None else None,
        "measured": _speedup(one.measured),
        "proved": one.proof.passed if one.proof is not None else None,
        "proof": one.proof.sentence if one.proof is not None else None,
        "kept": one.kept,
        "why": one.why,
        "trials": list(one.trials),
    }


def _speedup(found: Speedup | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {"ratio": found.ratio, "low": found.low, "high": found.high}
