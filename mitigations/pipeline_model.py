"""A step as one pipeline: what several remedies leave of it, and what decides next.

Every remedy predicts its own gain. Together they are worth neither the sum nor the product:

- **On what remains.** Remedies for one part of a phase act one after the other: two that each
  remove half of it leave a quarter.
- **What comes to light.** Making batches in workers is hidden behind the rest of the step. When
  the rest gets shorter, the workers still need their time, and the wait for them grows.
- **Who makes the batches.** What makes a batch cheaper makes workers faster, too: k workers on c
  cores are evaluated with what is left to do.

All of that is done twice, with the hopeful end of each remedy's range and with the careful one.
A plan of one remedy is worth what that remedy predicts, or less where something comes to light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speedprof.advisor.loading import WORKERS_BUSY, workers_busy
from speedprof.advisor.shares import number, step_ms
from speedprof.mitigations import facts
from speedprof.mitigations.gains import Pipeline, careful_step, hopeful_step, supply_ms
from speedprof.mitigations.pipeline_parts import names, parts_of, without
from speedprof.profiler.run import PHASES, Run

if TYPE_CHECKING:
    from speedprof.mitigations.catalogue import Advice

LOADING, WAITING = "data_loading", "communication"
MAKING = (None, "storage", "cpu_preparation")  # causes that lie in making batches
SHORTEST = 0.001  # of the step: what remains at least, so that a ratio is finite
WORDS = {name: name.replace("_", " ") for name in PHASES}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanGain:
    """What remedies gain together: old step / new step as a range, and the step that is left."""

    low: float
    high: float
    model: str  # the phases that change, with their numbers, one sentence
    phases: Mapping[str, tuple[float, float]]  # ms a step then: at the hopeful end, the careful
    next_bottleneck: tuple[str, ...]  # the largest phase then; two where the ends differ
    next_share: tuple[float, float]  # of the first of them, the smaller one first


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    now: float  # the step before, ms
    hopeful: bool  # which end of each range


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One end of the range: the step before, and what remedies leave of it; ms."""

    run: Run
    hopeful: bool
    now: float
    rest: float  # before: all but making batches
    left: float  # of the rest
    kept: float  # of making batches, 1: all of it

    @property
    def making(self) -> float:
        """Return what making batches costs the step before, exposed."""
        return self.now - self.rest


def plan_gain(run: Run, advice: Sequence[Advice]) -> PlanGain | None:
    """Return what these remedies gain together.

    None where the step was not measured, or where a remedy's own gain cannot be predicted.
    """
    now = step_ms(run)
    if run.phases is None or not now or any(one.fit.gain is None for one in advice):
        return None
    ends = [_after(run, advice, now, hopeful=hopeful) for hopeful in (True, False)]
    steps = [max(sum(end.values()), SHORTEST * now) for end in ends]
    leaders = [max(PHASES, key=lambda name: end[name]) for end in ends]
    shares = sorted(end[leaders[0]] / step for end, step in zip(ends, steps, strict=True))
    return PlanGain(
        low=now / max(steps),
        high=now / min(steps),
        model=_sentence(run, ends, now),
        phases={name: (ends[0][name], ends[1][name]) for name in PHASES},
        next_bottleneck=tuple(dict.fromkeys(leaders)),
        next_share=(shares[0], shares[1]),
    )


def after(run: Run, advice: Advice) -> PlanGain | None:
    """Return what one remedy leaves of the step; None where its gain cannot be predicted."""
    return plan_gain(run, [advice])


def _after(run: Run, advice: Sequence[Advice], now: float, *, hopeful: bool) -> dict[str, float]:
    """Return the phases in ms when all of this is done.

    Starting and handing over are parts of loading beside making batches, unless the remedies
    free more than these parts hold: then they act on all of it.
    """
    moving = [one for one in advice if _moves(one)]
    making = [one for one in advice if one not in moving and _makes(one)]
    beside = [one for one in advice if one.finding.phase == LOADING]
    ways = [making, [one for one in beside if one not in moving]]
    return min(
        (_all_done(run, advice, moving, way, _End(now=now, hopeful=hopeful)) for way in ways),
        key=lambda phases: sum(phases.values()),
    )


def _all_done(
    run: Run,
    advice: Sequence[Advice],
    moving: Sequence[Advice],
    making: Sequence[Advice],
    end: _End,
) -> dict[str, float]:
    now, hopeful = end.now, end.hopeful
    others = [one for one in advice if one not in moving and one not in making]
    were = parts_of(run, others)
    explained = {one.finding.rule for one in others if one.finding.phase == LOADING}
    made = sum(ms for name, ms in were[LOADING].items() if name not in explained)
    parts = {name: dict(were[name]) for name in PHASES}
    for one in others:
        phase = one.finding.phase
        freed = _freed(one, now, hopeful=hopeful)
        parts[phase] = without(parts[phase], names(one, were[phase]), freed, of=were[phase])
        more = freed - sum(were[phase].values())
        if more > 0 and _waited_for(run, phase):  # what kept the late rank kept the others waiting
            told = tuple(were[WAITING])
            parts[WAITING] = without(parts[WAITING], told, more, of=were[WAITING])
    beside = {name: sum(parts[name].values()) for name in PHASES if name != LOADING}
    starting = sum(parts[LOADING].get(name, 0.0) for name in explained)
    line = _Line(
        run=run,
        hopeful=hopeful,
        now=now,
        rest=now - made,
        left=sum(beside.values()) + starting,
        kept=1.0,
    )
    for one in making:
        line = replace(line, kept=line.kept * _cheaper(line, one))
    step, waiting = _with_workers(line, moving[-1]) if moving else _as_before(line)
    return _told_apart(step, beside, waiting + starting)


def _waited_for(run: Run, phase: str) -> bool:
    """Tell whether the late rank, for which the others wait, is late because of this phase."""
    return run.communication is not None and run.communication.late_rank_phase == phase


def _moves(advice: Advice) -> bool:
    """Tell whether a remedy changes how many workers make the batches."""
    return advice.finding.phase == LOADING and "num_workers" in advice.fit.parameters


def _makes(advice: Advice) -> bool:
    """Tell whether a remedy makes batches cheaper, whoever makes them."""
    return advice.finding.phase == LOADING and advice.finding.cause in MAKING


def _freed(advice: Advice, now: float, *, hopeful: bool) -> float:
    gain = advice.fit.gain
    assert gain is not None
    return now - now / (gain.high if hopeful else gain.low)


def _cheaper(line: _Line, advice: Advice) -> float:
    """Return which part of making batches a remedy leaves, going by what it would gain alone.

    Where workers are always busy, the step is as long as they take, whatever hides behind it.
    """
    base = line.now if _supply_bound(line.run) else line.making
    freed = _freed(advice, line.now, hopeful=line.hopeful)
    return 1.0 - min(freed / base, 1.0) if base > 0 else 1.0


def _supply_bound(run: Run) -> bool:
    loader = run.training_loader()
    busy = workers_busy(run, loader) if loader is not None else None
    return busy is not None and busy >= WORKERS_BUSY


def _as_before(line: _Line) -> tuple[float, float]:
    """Return the step, and its wait for making batches, with as many workers as now."""
    if _supply_bound(line.run):
        step = max(line.left, line.now * line.kept)
        return step, step - line.left
    loader = line.run.training_loader()
    pipeline = facts.pipeline(line.run, loader) if loader is not None else None
    supply = 0.0
    if pipeline is not None and pipeline.workers:
        supply = min(supply_ms(pipeline, pipeline.workers), line.now) * line.kept
    step = max(line.left + line.making * line.kept, supply)
    return step, step - line.left


def _with_workers(line: _Line, advice: Advice) -> tuple[float, float]:
    """Return the step, and its wait for making batches, with another number of workers.

    The remedy's own gain is the step if nothing else changed; the model of the loader says how
    much shorter it is with what the other remedies leave to do.
    """
    workers = advice.fit.parameters["num_workers"]
    alone = line.now - _freed(advice, line.now, hopeful=line.hopeful)
    waited = max(alone - line.rest, 0.0) * line.kept
    if not isinstance(workers, int) or workers < 1:
        return line.left + waited, waited
    before = _pipeline(line)
    then = replace(
        before,
        rest_ms=line.left,
        cpu_ms=before.cpu_ms * line.kept,
        waiting_ms=before.waiting_ms * line.kept,
    )
    model = hopeful_step if line.hopeful else careful_step
    step = max(alone * model(then, workers) / max(model(before, workers), 1e-9), line.left)
    return step, min(step, supply_ms(then, workers)) - line.left


def _pipeline(line: _Line) -> Pipeline:
    """Return the loader's pipeline; where it was not timed, all of making batches is CPU time."""
    loader = line.run.training_loader()
    found = facts.pipeline(line.run, loader) if loader is not None else None
    if found is not None:
        return replace(found, rest_ms=line.rest)
    return Pipeline(
        now_ms=line.now,
        workers=0,
        rest_ms=line.rest,
        cpu_ms=line.making,
        waiting_ms=0.0,
        handoff_ms=0.0,
        cores=facts.cores(line.run) or 1.0,
        rest_cores=1.0,
    )


def _told_apart(step: float, beside: dict[str, float], loading: float) -> dict[str, float]:
    """Return the phases of a step; what is neither loading nor explained slows the rest down."""
    waiting = min(max(loading, 0.0), step)
    whole = sum(beside.values())
    if whole <= 0:
        return beside | {LOADING: step}
    slower = (step - waiting) / whole
    return {name: ms * slower for name, ms in beside.items()} | {LOADING: waiting}


def _sentence(run: Run, ends: Sequence[Mapping[str, float]], now: float) -> str:
    phases = run.phases or {}
    changed = [
        f"{WORDS[name]} {number(phases[name].ms)} -> {_span(*(end[name] for end in ends))} ms"
        for name in PHASES
        if max(abs(end[name] - phases[name].ms) for end in ends) >= 0.01 * now
    ]
    step = _span(*(sum(end.values()) for end in ends))
    told = f", with {', '.join(changed)}" if changed else ""
    return f"the step as one pipeline: {number(now)} -> {step} ms{told}"


def _span(first: float, second: float) -> str:
    low, high = sorted((first, second))
    return number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"
