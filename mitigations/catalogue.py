"""Every remedy, in the order in which ties are shown, and the advice for one run."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from speedprof.advisor.finding import Finding
from speedprof.advisor.judgement import Judgement
from speedprof.advisor.loading import workers_busy
from speedprof.advisor.rules import warm_up
from speedprof.mitigations import (
    balanced_ranks,
    bf16_autocast,
    bf16_gradients,
    cache_samples,
    channels_last,
    collect_garbage_less,
    compile_model,
    ddp_buckets,
    deferred_reading,
    expandable_segments,
    faster_decoding,
    fewer_exchanges,
    fewer_threads,
    fused_optimizer,
    generator_to_loader,
    in_process_loading,
    larger_batch,
    loader_workers,
    nearer_storage,
    non_blocking_copies,
    persistent_workers,
    pin_memory,
    rarer_checkpoints,
    rarer_evaluation,
    rarer_work,
    smaller_batches,
    tf32,
)
from speedprof.mitigations.mitigation import SAFETIES, Fit, Misfit, Mitigation
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.run import Run

WORTH = 1.03  # a predicted 3 % is TraceML's "moderate" change and about the noise of repeated runs
MOST_ADVICE = 8
WORKERS_NEVER_IDLE = 0.8  # of the time busy; the rest is the refill after each evaluation
BESIDE_LOADING = ("host_to_device", "communication", "host")

CATALOGUE: tuple[Mitigation, ...] = tuple(
    module.MITIGATION
    for module in (
        loader_workers,
        persistent_workers,
        in_process_loading,
        generator_to_loader,
        cache_samples,
        nearer_storage,
        faster_decoding,
        fewer_threads,
        smaller_batches,
        pin_memory,
        non_blocking_copies,
        tf32,
        bf16_autocast,
        channels_last,
        compile_model,
        fused_optimizer,
        deferred_reading,
        rarer_work,
        collect_garbage_less,
        expandable_segments,
        rarer_checkpoints,
        rarer_evaluation,
        balanced_ranks,
        ddp_buckets,
        bf16_gradients,
        fewer_exchanges,
        larger_batch,
    )
)


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
    """Return at most eight remedies: largest middle of the gain first, safer ones in a tie."""
    best: dict[str, Advice] = {}
    for advice in _fits(run, judgement):
        other = best.get(advice.mitigation.name)
        if other is None or _rank(advice) < _rank(other):
            best[advice.mitigation.name] = advice
    worth = [a for a in best.values() if a.fit.gain is None or a.fit.gain.high >= WORTH]
    return tuple(sorted(worth, key=_rank)[:MOST_ADVICE])


def misfits(run: Run, judgement: Judgement) -> dict[str, Misfit]:
    """Return why each remedy that treats a finding does not apply, by name."""
    answers: dict[str, Misfit] = {}
    for finding in judgement.findings:
        for mitigation in CATALOGUE:
            answer = mitigation.assess(run, finding) if treats(mitigation, finding) else None
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
            fit = mitigation.assess(run, finding) if treats(mitigation, finding) else None
            if isinstance(fit, Fit):
                found.append(Advice(mitigation=mitigation, finding=finding, fit=fit))
    return found


def _hidden(run: Run, judgement: Judgement, finding: Finding) -> bool:
    """Tell whether nothing would be gained: no computing is saved while batches are late.

    MosaicML: progressive resizing, worth 4x, gave 1.10x where the loader was the limit. Behind
    workers that are never idle, the step is as long as they take, whatever else gets faster.
    Nothing is to be done about a recording's warm-up.
    """
    if warm_up.NAME in (finding.rule, finding.symptom_of):
        return True
    verdict = judgement.verdict.finding
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
    order = [mitigation.name for mitigation in CATALOGUE].index(advice.mitigation.name)
    return (-round(middle, 2), SAFETIES.index(advice.mitigation.safety), order)
