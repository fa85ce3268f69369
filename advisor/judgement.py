"""Run -> findings -> verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from speedprof.advisor import rules
from speedprof.advisor.finding import Finding, Verdict
from speedprof.advisor.rules.arithmetic_bound import compute_evidence
from speedprof.advisor.shares import number, part, percent, step_ms
from speedprof.advisor.words import CAUSE_WORDS, PHASE_WORDS
from speedprof.profiler.run import PHASES, Phase, Run

# A stall is anything but compute. From a fifth of the step it stands out: removing it gives 1.25x
# or more. XProf calls 20 % "highly input-bound", TraceML critical, gpuprof warns of communication
# from there.
STALL_STANDS_OUT = 0.20
# Computing is what the step is for: it is the verdict only where it leaves no room for anything
# else. With 70 % the stalls together hold less than 1.43x, spread over causes that are each below
# 20 %. TraceML asks for 90 %, which calls most healthy steps unexplained.
COMPUTE_DOMINATES = 0.70
# A cause is named for a whole phase where it explains at least this part of it.
CAUSE_EXPLAINS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the rules found, root causes first, and what stands out."""

    verdict: Verdict
    findings: tuple[Finding, ...]


def judge(run: Run) -> Judgement:
    """Ask every rule and say what stands out; never raises on facts that were not measured."""
    answers = (cast("Finding | None", rule.check(run)) for rule in rules.RULES)
    findings = _as_one_story(run, [answer for answer in answers if answer is not None])
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
    sentence = _sentence(run.phases[phase], chief, findings)
    return Judgement(
        verdict=Verdict(finding=chief, sentence=sentence), findings=_ordered(findings, chief)
    )


def _standing_out(phases: dict[str, Phase], findings: list[Finding]) -> str | None:
    """Return the phase that the verdict is about, None where the step is balanced."""
    folded = {found.phase for found in findings if found.symptom_of == "straggler"}
    stalls = [name for name in PHASES if name != "compute"]
    large = [name for name in stalls if phases[name].share >= STALL_STANDS_OUT]
    if "communication" in large:
        large = [name for name in large if name not in folded]
    if large:
        return max(large, key=lambda name: phases[name].share)
    return "compute" if phases["compute"].share >= COMPUTE_DOMINATES else None


def _chief(run: Run, phase: str, findings: list[Finding]) -> Finding:
    """Return the finding that explains most of the phase, or one without a cause."""
    whole = part(run, phase, 1.0)
    here = [found for found in findings if found.phase == phase and found.symptom_of is None]
    largest = max(here, key=lambda found: found.share, default=None)
    if whole is None or (largest and largest.share >= CAUSE_EXPLAINS * whole.share):
        return cast("Finding", largest)
    evidence = (
        compute_evidence(run, whole)
        if phase == "compute"
        else f"it takes {whole.text} of each step"
    )
    return Finding(
        rule=phase.replace("_", "-"),
        phase=phase,
        cause=None,
        share=whole.share,
        low=whole.low,
        high=whole.high,
        evidence=evidence,
    )


def _as_one_story(run: Run, findings: list[Finding]) -> list[Finding]:
    """Mark what is only the consequence, or the inside, of another finding."""
    told = {found.rule: found for found in findings}
    root = {}
    crowded, preparing = told.get("cpu-oversubscription"), told.get("preparation-bound")
    if crowded and preparing and crowded.share >= preparing.share:
        root["preparation-bound"] = "cpu-oversubscription"
    late = run.communication.late_rank_phase if run.communication else None
    if "straggler" in told and late is not None:
        root |= {found.rule: "straggler" for found in findings if found.phase == late}
    return [
        replace(found, symptom_of=root[found.rule]) if found.rule in root else found
        for found in findings
    ]


def _ordered(findings: list[Finding], chief: Finding | None = None) -> tuple[Finding, ...]:
    """Put the verdict first, then roots before symptoms, larger shares before smaller ones."""
    return tuple(
        sorted(
            findings,
            key=lambda found: (found is not chief, found.symptom_of is not None, -found.share),
        )
    )


def _sentence(phase: Phase, chief: Finding, findings: list[Finding]) -> str:
    threshold = COMPUTE_DOMINATES if chief.phase == "compute" else STALL_STANDS_OUT
    words = CAUSE_WORDS.get((chief.phase, chief.cause), "the cause could not be told")
    where = f" at {chief.where}" if chief.where else ""
    inside = [found for found in findings if found.symptom_of == chief.rule]
    story = f"; behind it: {inside[0].evidence}" if inside else ""
    doubt = (
        f" (95 % interval {percent(phase.low)} to {percent(phase.high)}: it may be below the "
        f"{percent(threshold)} from which it counts as the bottleneck)"
        if phase.low < threshold
        else ""
    )
    takes = f"{PHASE_WORDS[chief.phase]} takes {percent(phase.share)} of each step{doubt}"
    return f"{takes}: {words}{where}{story}"


def _balanced(phases: dict[str, Phase]) -> str:
    stalls = {name: phase for name, phase in phases.items() if name != "compute"}
    largest = max(stalls, key=lambda name: stalls[name].share)
    stall, compute = stalls[largest], phases["compute"]
    doubtful = stall.high >= STALL_STANDS_OUT or compute.high >= COMPUTE_DOMINATES
    doubt = (
        "; the intervals reach over these limits, so more steps may say more" if doubtful else ""
    )
    return (
        f"Nothing stands out: computing takes {percent(compute.share)} of each step (dominating "
        "from "
        f"{percent(COMPUTE_DOMINATES)}) and the largest stall, {PHASE_WORDS[largest].lower()}, "
        f"{percent(stall.share)} (standing out from {percent(STALL_STANDS_OUT)}){doubt}"
    )


def _unseen(run: Run) -> str:
    mean = step_ms(run)
    if run.steps == 0 or mean is None:
        few = (
            f"only {run.steps} training steps were seen"
            if run.steps
            else "no training step was seen"
        )
        return (
            f"No verdict: {few}; train for more steps, or mark them in the script with "
            "`with speedprof.step():` around the body of the training loop"
        )
    why = next((gap.why for gap in run.not_measured if gap.what == "phases"), None)
    reason = why or "no window could be recorded"
    return (
        f"No verdict: {run.steps} steps of {number(mean)} ms were seen, but not where their time "
        "goes "
        f"({reason}); run again without --no-windows and for at least some dozens of steps"
    )
