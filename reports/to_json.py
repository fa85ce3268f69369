"""The run for other programs: `report.json`, stable, its schema shipped beside this file.

Shares are rounded to 4 decimals, all other numbers to 5 significant digits: below that is noise,
and a report that is made twice reads the same. What was not measured is null, and so is what is
not finite.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from speedprof.profiler.roofs.placing import places
from speedprof.profiler.run import PHASES
from speedprof.reports.escape import encodable

if TYPE_CHECKING:
    from speedprof.advisor.finding import Finding
    from speedprof.advisor.judgement import Judgement
    from speedprof.mitigations.catalogue import Advice
    from speedprof.mitigations.mitigation import Gain
    from speedprof.mitigations.pipeline_model import PlanGain
    from speedprof.profiler.ceilings import Ceiling
    from speedprof.profiler.roofs.roofs import Roofs
    from speedprof.profiler.run import Compute, Phase, Run
    from speedprof.reports.view import View

FORMAT = 1
Json = dict[str, object]


def render(view: View) -> str:
    """Return the report as JSON in plain ASCII, so that no terminal and no decoder can stumble."""
    return json.dumps(_report(view), indent=1, allow_nan=False) + "\n"


def schema() -> Json:
    """Return the JSON schema (draft 2020-12) of the report."""
    text = resources.files("speedprof.reports").joinpath("report.schema.json").read_text("utf-8")
    loaded: Json = json.loads(text)
    return loaded


def _report(view: View) -> Json:
    run, judgement = view.run, view.judgement
    report: Json = {
        "format": FORMAT,
        "run": _run(run),
        "phases": _phases(run.phases),
        "ceilings": {name: _ceiling(gone) for name, gone in view.ceilings.items()},
        "gpu_use": _facts(run.gpu_use),
        "trace_use": _facts(run.trace_use),
        "compute": _compute(run.compute),
        "copies": _facts(run.copies),
        "communication": _facts(run.communication),
        "missing_ranks": [list(stretch) for stretch in run.missing_ranks],
        "bottleneck": _bottleneck(judgement),
        "verdict": judgement.verdict.sentence,
        "findings": [_finding(finding) for finding in judgement.findings],
        "mitigations": [_mitigation(view, advice) for advice in view.advice],
        "not_measured": [{"what": gap.what, "why": gap.why} for gap in run.not_measured],
        "changes": run.changes,
    }
    if run.applied:
        report["applied"] = [_facts(one) for one in run.applied]
    if run.notes:
        report["notes"] = run.notes
    if run.roofs is not None:
        report["roofs"] = _roofs(run.roofs, run)
    if run.tuning is not None:
        report["tuning"] = _facts(run.tuning)
    if run.whatif is not None:
        report["whatif"] = _facts(run.whatif)
    if judgement.remarks:
        report["remarks"] = [dataclasses.asdict(one) for one in judgement.remarks]
    plan = view.outlook.plan if view.outlook is not None else None
    if plan is not None:
        report["plan"] = {"remedies": plan.names, **_gained(plan.gain)}
    return {key: _plain(value) for key, value in report.items()}


def _run(run: Run) -> Json:
    times = run.step_ms
    step_ms = times and {
        "median": _rounded(times.median_ms),
        "p10": _rounded(times.p10_ms),
        "p90": _rounded(times.p90_ms),
    }
    return {
        "kind": run.kind,
        "command": run.command,
        "finished": run.finished,
        "exit_status": run.exit_status,
        "ranks": run.world_size,
        "steps": run.steps,
        "device": run.device,
        "step_ms": step_ms,
        "samples_per_s": _rounded(times.samples_per_s) if times else None,
    }


def _phases(phases: dict[str, Phase] | None) -> Json | None:
    if phases is None:
        return None
    return {
        name: {
            "share": _share(phases[name].share),
            "low": _share(phases[name].low),
            "high": _share(phases[name].high),
            "ms": _rounded(phases[name].ms),
        }
        for name in PHASES
    }


def _ceiling(gone: Ceiling) -> Json:
    return {
        "low_ms": _rounded(gone.low_ms),
        "high_ms": _rounded(gone.high_ms),
        "speedup_low": _rounded(gone.speedup_low),
        "speedup_high": _rounded(gone.speedup_high),
    }


def _facts(measured: msgspec.Struct | None) -> object:
    """Return measured facts under the names that `profiler.run` gives them."""
    return _rounded_within(msgspec.to_builtins(measured))


def _compute(compute: Compute | None) -> object:
    """Return the inside of compute without its operators: their names may be pages long."""
    if compute is None:
        return None
    plain: Json = msgspec.to_builtins(compute)
    return _rounded_within({key: value for key, value in plain.items() if key != "operators"})


def _rounded_within(value: object) -> object:
    if isinstance(value, float):
        return _rounded(value)
    if isinstance(value, dict):
        return {key: _rounded_within(item) for key, item in value.items()}
    return [_rounded_within(item) for item in value] if isinstance(value, list) else value


def _roofs(roofs: Roofs, run: Run) -> Json:
    """Return what the run reached of its machine's roofs, not all the roofs themselves."""
    return {
        "machine": roofs.machine,
        "measured_at": max(roofs.measured_at.values(), default=None),
        "torch": roofs.torch,
        "places": [
            {
                "name": place.name,
                "what": place.what,
                "value": _rounded(place.value),
                "roof": _rounded(place.roof),
                "share": _rounded(place.share),
                "unit": place.unit,
                "roof_of": place.roof_of,
            }
            for place in places(run)
        ],
    }


def _bottleneck(judgement: Judgement) -> Json | None:
    finding = judgement.verdict.finding
    if finding is None:
        return None
    return {
        "phase": finding.phase,
        "cause": finding.cause,
        "share": _share(finding.share),
        "evidence": finding.evidence,
    }


def _finding(finding: Finding) -> Json:
    return {
        "rule": finding.rule,
        "bottleneck": finding.bottleneck,
        "share": _share(finding.share),
        "evidence": finding.evidence,
        "where": finding.where,
    }


def _mitigation(view: View, advice: Advice) -> Json:
    mitigation, fit = advice.mitigation, advice.fit
    left = view.outlook.after.get(mitigation.name) if view.outlook is not None else None
    told: Json = {
        "name": mitigation.name,
        "safety": mitigation.safety,
        "action": mitigation.action,
        "component": mitigation.component,
        "place": mitigation.place,
        "how": mitigation.how,
        "parameters": dict(fit.parameters),
        "gain": _gain(fit.gain),
        "reason": fit.reason,
        "source": mitigation.source,
    }
    return told if left is None else {**told, "then": _then(left)}


def _gained(plan: PlanGain) -> Json:
    """Return what a plan gains and which step it leaves, from the hopeful end to the careful."""
    return {
        "gain": _gain(plan),
        "phases": {
            name: {"low_ms": _rounded(min(ends)), "high_ms": _rounded(max(ends))}
            for name, ends in plan.phases.items()
        },
        "then": _then(plan),
    }


def _then(left: PlanGain) -> Json:
    low, high = left.next_share
    return {"phases": left.next_bottleneck, "low": _share(low), "high": _share(high)}


def _gain(gain: Gain | PlanGain | None) -> Json | None:
    if gain is None:
        return None
    return {"low": _rounded(gain.low), "high": _rounded(gain.high), "model": gain.model}


def _share(value: float) -> float | None:
    return round(min(max(value, 0.0), 1.0), 4) if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def _plain(value: object) -> object:
    """Return what JSON can say.

    Text that UTF-8 can hold, finite numbers, and the repr of the rest.
    """
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        return {encodable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return encodable(repr(value))
