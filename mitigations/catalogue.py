"""Every remedy, in the order in which ties are shown, and the advice for one run."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from speedprof.advisor.finding import Finding
from speedprof.advisor.judgement import Judgement
from speedprof.advisor.loading import workers_busy
from speedprof.advisor.rules import warm_up
from speedprof.mitigations import communication, compute, copies, host, loading, memory, training
from speedprof.mitigations.applied.words import OWN_ARGUMENT
from speedprof.mitigations.mitigation import SAFETIES, Fit, Misfit, Mitigation
from speedprof.mitigations.trainers import spelled
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.run import Run

WORTH = 1.03  # a predicted 3 % is TraceML's "moderate" change and about the noise of repeated runs
MOST_ADVICE = 8
MOST_CHANGING = 3  # of them: remedies that change the training are another decision, taken later
MOST_BALANCED = 2  # where nothing stands out, nothing is urgent either
WORKERS_NEVER_IDLE = 0.8  # of the time busy; the rest is the refill after each evaluation
BESIDE_LOADING = ("host_to_device", "communication", "host")

FOLDERS = (loading, copies, compute, host, memory, communication, training)
CATALOGUE: tuple[Mitigation, ...] = tuple(one for folder in FOLDERS for one in folder.REMEDIES)
_ORDER = {mitigation.name: index for index, mitigation in enumerate(CATALOGUE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One remedy that fits this run, and the finding that it treats."""

    mitigation: Mitigation
    finding: Finding
    fit: Fit


def find(name: str) -> Mitigation:
    """Return the remedy of this name; raises SpeedprofError with the nearest names."""
    by_name = {mitigation.name: mitigation for mitigation in CATALOGUE}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(by_name)}"
    raise SpeedprofError(f"no remedy is called {name!r}; {hint}")


def advise(run: Run, judgement: Judgement) -> tuple[Advice, ...]:
    """Return at most eight remedies of those that fit, in their order.

    Of a step in which nothing stands out, at most two.
    Those that change the training come after all others, whatever they promise: what they cost in
    quality is not known. Those with evidence against them are not advised at all.
    """
    ranked = fits(run, judgement)
    changing = [one for one in ranked if one.mitigation.changes_training][:MOST_CHANGING]
    keeping = [one for one in ranked if not one.mitigation.changes_training]
    most = MOST_BALANCED if judgement.verdict.finding is None else MOST_ADVICE
    return tuple([*keeping, *changing][:most])


def fits(run: Run, judgement: Judgement) -> list[Advice]:
    """Return every remedy that fits this run, each once: largest middle of the gain first.

    Safer ones come first in a tie.
    """
    best: dict[str, Advice] = {}
    for advice in _fits(run, judgement):
        other = best.get(advice.mitigation.name)
        if other is None or _rank(advice) < _rank(other):
            best[advice.mitigation.name] = advice
    worth = [a for a in best.values() if a.fit.gain is None or a.fit.gain.high >= WORTH]
    return sorted(worth, key=_rank)


def misfits(run: Run, judgement: Judgement) -> dict[str, Misfit]:
    """Return why each remedy that treats a finding does not apply, by name."""
    answers: dict[str, Misfit] = {}
    for finding in judgement.findings:
        for mitigation in CATALOGUE:
            answer = _assessed(mitigation, run, finding) if treats(mitigation, finding) else None
            if isinstance(answer, Misfit):
                answers[mitigation.name] = answer
    return answers


def treats(mitigation: Mitigation, finding: Finding) -> bool:
    """Tell whether the remedy is for this bottleneck; an unknown cause may be any of its phase."""
    return any(
        phase == finding.phase and (cause is None or finding.cause in (None, cause))
        for phase, cause in mitigation.treats
    )


def _fits(run: Run, judgement: Judgement) -> list[Advice]:
    found = []
    for finding in judgement.findings:
        if _hidden(run, judgement, finding):
            continue
        for mitigation in CATALOGUE:
            if mitigation.against or not treats(mitigation, finding):
                continue
            fit = _assessed(mitigation, run, finding)
            if isinstance(fit, Fit):
                found.append(Advice(mitigation=mitigation, finding=finding, fit=fit))
    return found


def _assessed(mitigation: Mitigation, run: Run, finding: Finding) -> Fit | Misfit:
    answer = mitigation.assess(run, finding)
    if isinstance(answer, Misfit):
        return answer
    why = _put_in_force(mitigation.name, answer, run)
    return Misfit(reason=why) if why else spelled(mitigation.name, answer, run)


def _put_in_force(name: str, fit: Fit, run: Run) -> str | None:
    """Return what a plan made of the remedy in this run, None where it is advice all the same.

    What the record holds of a model may have been seen before a remedy changed it. Other values of
    a remedy are advice, and one that the script's own argument kept out, too.
    """
    for one in run.applied:
        if one.name != name:
            continue
        if one.effects > 0:
            given = one.parameters
            same = all(given.get(key, value) == value for key, value in fit.parameters.items())
            return "it is in force already" if same else None
        refused = [note for note in one.notes if not note.startswith(OWN_ARGUMENT)]
        return f"it was put in force and had no effect: {refused[0]}" if refused else None
    return None


def _hidden(run: Run, judgement: Judgement, finding: Finding) -> bool:
    """Tell whether nothing would be gained: no computing is saved while batches are late.

    MosaicML: progressive resizing, worth 4x, gave 1.10x where the loader was the limit. Behind
    workers that are never idle, the step is as long as they take, whatever else gets faster.
    Nor is loading made faster where computing is the limit: NERSC's model that kept its GPU busy
    for 98 % of the time gained 7 % by DALI, and 3.2x by half precision.
    Nothing is to be done about a recording's warm-up.
    """
    if warm_up.NAME in (finding.rule, finding.symptom_of):
        return True
    verdict = judgement.verdict.finding
    if verdict is not None and verdict.phase == "compute":
        return finding.phase == "data_loading"
    if verdict is None or verdict.phase != "data_loading":
        return False
    if finding.phase == "compute" or finding.cause == "launch":
        return True
    loader = run.training_loader()
    busy = workers_busy(run, loader) if loader else None
    return busy is not None and busy >= WORKERS_NEVER_IDLE and finding.phase in BESIDE_LOADING


def _rank(advice: Advice) -> tuple[float, int, int]:
    gain = advice.fit.gain
    middle = (gain.low + gain.high) / 2 if gain else 1.0
    return (
        -round(middle, 2),
        SAFETIES.index(advice.mitigation.safety),
        _ORDER[advice.mitigation.name],
    )
