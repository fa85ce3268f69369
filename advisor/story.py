"""One story instead of twenty warnings: which finding is only another one's consequence."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.profiler.run import Run

# A stall is anything but compute. From a fifth of the step it stands out: removing it gives 1.25x
# or more. XProf calls 20 % "highly input-bound", TraceML critical, gpuprof warns of communication
# from there.
STALL_STANDS_OUT = 0.20
MOSTLY = 0.5  # of a finding: from here another one explains it


def as_one_story(run: Run, findings: list[Finding]) -> list[Finding]:
    """Mark each finding that is only the consequence, or the inside, of another one."""
    told = {found.rule: found for found in findings}
    root = _crowding(told) | _needless(told) | _lateness(run, findings) | _warming(told)
    marked = [
        replace(found, symptom_of=root[found.rule]) if found.rule in root else found
        for found in findings
    ]
    return _with_circumstances(run, marked)


def _with_circumstances(run: Run, findings: list[Finding]) -> list[Finding]:
    """Tell each circumstance once, with the largest finding that it may belong to."""
    around: dict[str, list[str]] = {}
    for tell, concerned in circumstances.SHARED:
        here = [found for found in findings if _concerns(run, found, concerned)]
        largest = max(here, key=lambda found: found.share, default=None)
        text = tell(run)
        if largest and text and not any(text in found.evidence for found in findings):
            around.setdefault(largest.rule, []).append(text)
    return [
        replace(found, evidence=found.evidence + circumstances.joined(*around[found.rule]))
        if found.rule in around
        else found
        for found in findings
    ]


def _concerns(run: Run, found: Finding, concerned: tuple[tuple[str, str], ...]) -> bool:
    """Tell whether the finding is of such a cause; what needs cores is all computing on a CPU."""
    computes = found.phase == "compute" and run.device == "cpu"
    cores = concerned == circumstances.ON_CORES and computes
    return cores or any(found.phase == p and found.cause == c for p, c in concerned)


def _crowding(told: dict[str, Finding]) -> dict[str, str]:
    """Preparation is slow because it has no core, where it queues longer than it computes."""
    crowded, preparing = told.get("cpu-oversubscription"), told.get("preparation-bound")
    if crowded is None or preparing is None or crowded.share < preparing.share:
        return {}
    return {preparing.rule: crowded.rule}


def _needless(told: dict[str, Finding]) -> dict[str, str]:
    """An exchange is slow because it is made in vain, where most of it is."""
    needless, exchange = told.get("needless-exchange"), told.get("communication-transfer")
    if needless is None or exchange is None or needless.share < MOSTLY * exchange.share:
        return {}
    return {exchange.rule: needless.rule}


def _warming(told: dict[str, Finding]) -> dict[str, str]:
    """What is no larger than the warm-up of its phase is a part of it."""
    warm = told.get("warm-up")
    if warm is None:
        return {}
    return {
        found.rule: warm.rule
        for found in told.values()
        if found is not warm and found.phase == warm.phase and found.share <= warm.share
    }


def _lateness(run: Run, findings: list[Finding]) -> dict[str, str]:
    """Fold a late rank's own trouble into the straggler; trouble of all ranks is a root itself."""
    waits = next((found for found in findings if found.rule == "straggler"), None)
    phase = run.communication.late_rank_phase if run.communication else None
    own = [found for found in findings if found.phase == phase]
    if waits is None or phase is None or not own:
        return {}
    if waits.share >= STALL_STANDS_OUT and _late_alone(run, phase, waits.share):
        return {found.rule: waits.rule for found in own}
    return {waits.rule: max(own, key=lambda found: found.share).rule}


def _late_alone(run: Run, phase: str, waiting: float) -> bool:
    """Tell whether what keeps the late rank is small on the others: one rank is slow, not all."""
    late = run.communication.late_rank if run.communication else None
    others = [rank.phases[phase].share for rank in run.ranks if rank.phases and rank.rank != late]
    return median(others) < STALL_STANDS_OUT if others else waiting >= (run.share(phase) or 0.0)
