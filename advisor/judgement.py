"""Run -> findings -> verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from speedprof.advisor import rules
from speedprof.advisor.finding import Finding, Verdict
from speedprof.advisor.remarks import Remark, remarks
from speedprof.advisor.rules import recorded_loading, straggler, warm_up
from speedprof.advisor.rules.arithmetic_bound import compute_evidence
from speedprof.advisor.shares import Part, finding, number, part, percent, plenty, step_ms
from speedprof.advisor.story import STALL_STANDS_OUT, as_one_story
from speedprof.advisor.words import PHASE_WORDS, cause_words
from speedprof.profiler.run import PHASES, Phase, Run

# Computing is what the step is for: it is the verdict only where it leaves no room for anything
# else. With three quarters, all stalls together hold less than 1.33x. TraceML asks for 90 %, which
# leaves most healthy steps without a word.
COMPUTE_DOMINATES = 0.75
# A cause is named for a whole phase where it explains at least this part of it.
CAUSE_EXPLAINS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the rules found, root causes first, and what stands out."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    remarks: tuple[Remark, ...] = ()  # faults that cost no time


def judge(run: Run) -> Judgement:
    """Ask every rule and say what stands out; never raises on facts that were not measured."""
    return replace(_judged(run), remarks=remarks(run))


def _judged(run: Run) -> Judgement:
    answers = (cast("Finding | None", rule.check(run)) for rule in rules.RULES)
    findings = as_one_story(run, [answer for answer in answers if answer is not None])
    if run.phases is None:
        return Judgement(
            verdict=Verdict(finding=None, sentence=_unseen(run)), findings=tuple(findings)
        )
    phase = _standing_out(run.phases, findings)
    if phase is None:
        return Judgement(
            verdict=Verdict(finding=None, sentence=_balanced(run.phases)),
            findings=_ordered(findings),
        )
    chief = _chief(run, phase, findings)
    if chief not in findings:
        findings.append(chief)
    sentence = _sentence(run, run.phases[phase], chief)
    return Judgement(
        verdict=Verdict(finding=chief, sentence=sentence), findings=_ordered(findings, chief)
    )


def _standing_out(phases: dict[str, Phase], findings: list[Finding]) -> str | None:
    """Return the phase that the verdict is about, None where the step is balanced."""
    explained = _explained(findings)
    large = [
        name
        for name in PHASES
        if name != "compute" and name not in explained and phases[name].share >= STALL_STANDS_OUT
    ]
    if large:
        return max(large, key=lambda name: phases[name].share)
    return "compute" if phases["compute"].share >= COMPUTE_DOMINATES else None


def _explained(findings: list[Finding]) -> set[str]:
    """Return the phases that are large only because of another one: their largest is a symptom."""
    told = {found.rule: found for found in findings}
    largest = {found.phase: found for found in sorted(findings, key=lambda found: found.share)}
    return {
        phase
        for phase, found in largest.items()
        if found.symptom_of is not None and told[found.symptom_of].phase != phase
    }


def _chief(run: Run, phase: str, findings: list[Finding]) -> Finding:
    """Return the finding that explains most of the phase, or one without a cause."""
    whole = cast("Part", part(run, phase, 1.0))
    shares: dict[str | None, float] = {}
    for found in findings:
        if found.phase == phase:
            shares[found.cause] = shares.get(found.cause, 0.0) + found.share
    cause = max(shares, key=lambda name: shares[name], default=None)
    if not shares or shares[cause] < CAUSE_EXPLAINS * whole.share:
        return _unexplained(run, whole)
    here = [found for found in findings if found.phase == phase and found.cause == cause]
    return max(here, key=lambda found: (found.symptom_of is None, found.share))


def _unexplained(run: Run, whole: Part) -> Finding:
    """Return the finding on a phase that stands out and whose cause no rule could tell."""
    takes = f"it takes {whole.text} of each step"
    evidence = compute_evidence(run, whole) if whole.phase == "compute" else takes
    rule = whole.phase.replace("_", "-")
    return finding(whole, rule, None, evidence=evidence)


def _ordered(findings: list[Finding], chief: Finding | None = None) -> tuple[Finding, ...]:
    """Put the verdict first, then roots before symptoms, larger shares before smaller ones."""
    return tuple(
        sorted(
            findings,
            key=lambda found: (found is not chief, found.symptom_of is not None, -found.share),
        )
    )


def _sentence(run: Run, phase: Phase, chief: Finding) -> str:
    threshold = COMPUTE_DOMINATES if chief.phase == "compute" else STALL_STANDS_OUT
    words = _words(run, chief)
    where = f" at {chief.where}" if chief.where else ""
    late = f"; {straggler.who(run.communication)}" if chief.rule == straggler.NAME else ""
    doubt = (
        f" (95 % interval {percent(phase.low)} to {percent(phase.high)}: it may be below the "
        f"{percent(threshold)} from which it counts as the bottleneck)"
        if phase.low < threshold
        else ""
    )
    takes = f"{PHASE_WORDS[chief.phase]} takes {percent(phase.share)} of each step{doubt}"
    return f"{takes}: {words}{where}{late}"


def _words(run: Run, chief: Finding) -> str:
    if chief.rule == recorded_loading.NAME:
        return recorded_loading.makers(run)
    if chief.rule == warm_up.NAME:
        return warm_up.words(run)
    if chief.bottleneck == "communication" and run.missing_ranks:
        return "exchange and waiting can be told apart only with the traces of the other ranks"
    return cause_words(chief.phase, chief.cause, device=run.device)


def _balanced(phases: dict[str, Phase]) -> str:
    stalls = {name: phase for name, phase in phases.items() if name != "compute"}
    largest = max(stalls, key=lambda name: stalls[name].share)
    stall, compute = stalls[largest], phases["compute"]
    doubtful = stall.high >= STALL_STANDS_OUT or compute.high >= COMPUTE_DOMINATES
    doubt = (
        "; the intervals reach over these limits, so more steps may say more" if doubtful else ""
    )
    return (
        f"Nothing stands out: computing takes {percent(compute.share)} of each step "
        f"(dominating from {percent(COMPUTE_DOMINATES)}) and the largest stall, "
        f"{PHASE_WORDS[largest].lower()}, {percent(stall.share)} "
        f"(standing out from {percent(STALL_STANDS_OUT)}){doubt}"
    )


def _unseen(run: Run) -> str:
    mean = step_ms(run)
    why = next((gap.why for gap in run.not_measured if gap.what in ("phases", "steps")), None)
    if run.steps and mean is not None:
        return (
            f"No verdict: {run.steps} steps of {number(mean)} ms were seen, but not where their "
            f"time goes ({why or 'no window was recorded'}); run again with windows, for dozens "
            "of steps"
        )
    if why is not None:
        return f"No verdict: {why}"
    seen = f"only {plenty(run.steps, 'training step')}" if run.steps else "no training step"
    return (
        f"No verdict: {seen} could be measured; train for more steps, or mark them in the "
        "script with `with speedprof.step():` around the body of the training loop"
    )
