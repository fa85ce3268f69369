"""What is tried although no advice names it: other values, and remedies that the models doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from speedprof.mitigations import facts
from speedprof.mitigations.communication.wrapping import ddp_models
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.mitigation import Gain
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.trial import Plan
from speedprof.profiler.run import Loader, Run

WAITS = 0.03  # of the step; less than a remedy is worth
PHASE = 0.10  # of the step; in a smaller phase, no more than 1.11x can be found by trying
MOST_WORKERS = 16  # published gains flatten below 20 (Lotus, IISWC 2024)
MOST_PREFETCHED = 32  # batches per worker; more is memory and no speed
BUCKETS_MB = (1.0, 400.0)
BUCKETS_TIMES = 4  # buckets are tried this many times as large, then as small
Value = tuple[Remedy, Gain | None]
Named = tuple[str, Mapping[str, object]]


def values(run: Run, plan: Plan) -> Iterator[Value]:
    """Yield remedies in force with other values: no grid, but steps while they pay.

    Twice as many of what still leaves a wait; one fewer where workers fill the cores. What a step
    gains is asked of a trial; each that is kept leads to the next.
    """
    for remedy in plan:
        steps = _STEPS.get(remedy.name)
        if steps is not None:
            yield from steps(remedy, run)


def _workers(remedy: Remedy, run: Run) -> Iterator[Value]:
    workers = remedy.parameters.get("num_workers")
    if not isinstance(workers, int) or workers < 1:
        return
    hope = _left(run, "data_loading")
    if hope is not None and workers < MOST_WORKERS:
        yield _with(remedy, "num_workers", min(2 * workers, MOST_WORKERS)), hope
    if workers > 1 and workers >= (facts.own_cores(run) or math.inf):
        yield _with(remedy, "num_workers", workers - 1), None


def _prefetch(remedy: Remedy, run: Run) -> Iterator[Value]:
    factor, hope = remedy.parameters.get("prefetch_factor"), _left(run, "data_loading")
    if isinstance(factor, int) and hope is not None and factor < MOST_PREFETCHED:
        yield _with(remedy, "prefetch_factor", min(2 * factor, MOST_PREFETCHED)), hope


def _threads(remedy: Remedy, run: Run) -> Iterator[Value]:
    threads, cores = remedy.parameters.get("threads"), facts.own_cores(run) or 1.0
    if isinstance(threads, int) and threads < cores:
        yield _with(remedy, "threads", threads + 1), None


def _buckets(remedy: Remedy, run: Run) -> Iterator[Value]:
    size, hope = remedy.parameters.get("bucket_cap_mb"), _left(run, "communication")
    if not isinstance(size, (int, float)) or hope is None:
        return
    for other in (size * BUCKETS_TIMES, size / BUCKETS_TIMES):
        if BUCKETS_MB[0] <= other <= BUCKETS_MB[1]:
            yield _with(remedy, "bucket_cap_mb", float(other)), hope


_STEPS: dict[str, Callable[[Remedy, Run], Iterator[Value]]] = {
    "loader-workers": _workers,
    "deeper-prefetch": _prefetch,
    "fewer-threads": _threads,
    "ddp-buckets": _buckets,
}


def _with(remedy: Remedy, name: str, value: float) -> Remedy:
    return replace(remedy, parameters={**remedy.parameters, name: value})


def _left(run: Run, phase: str) -> Gain | None:
    """Return what is gained where all that is left of a phase goes, None where it is nothing."""
    told = run.phases[phase] if run.phases else None
    if told is None or told.share < WAITS:
        return None
    model = f"at most what is left of {phase}: {100 * told.high:.0f} % of the step"
    return Gain(low=1.0, high=ceiling(told.high), model=model)


def remedies(run: Run, plan: Plan) -> Iterator[Named]:
    """Yield what could still help in a phase that takes a tenth of the step, the largest first."""
    loader = run.training_loader()
    by_phase: dict[str, list[Named]] = {
        "data_loading": [] if loader is None else list(_of_loading(run, loader, plan)),
        "communication": [("ddp-buckets", {})] if ddp_models(run) else [],
        "compute": list(_of_computing(run)),
    }
    for phase in sorted(by_phase, key=lambda phase: -(run.share(phase) or 0.0)):
        if (run.share(phase) or 0.0) >= PHASE:
            yield from by_phase[phase]


def _of_loading(run: Run, loader: Loader, plan: Plan) -> Iterator[Named]:
    cores = int(facts.own_cores(run) or 1)
    if loader.num_workers > 0:
        if all(one.name != "loader-workers" for one in plan):  # they have won already
            yield "in-process-loading", {}
    elif not loader.iterable and cores > 1:
        yield "loader-workers", {"num_workers": min(2, cores), "persistent_workers": True}


def _of_computing(run: Run) -> Iterator[Named]:
    if facts.is_gpu(run) or facts.cpu_has_bf16(run):
        yield "bf16-autocast", {}
    convolutions = facts.kinds_share(run, "convolution") or 0.0
    if convolutions >= PHASE and not any(model.channels_last for model in run.models):
        yield "channels-last", {}
    if run.models and not any(model.compiled for model in run.models):
        yield "compile-model", {}
