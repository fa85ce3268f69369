"""Make batches in worker processes.

Does: builds the DataLoader with `num_workers=k`, so that k processes make batches while the step
    runs.
Helps: samples that wait for storage, or that are prepared on a CPU with cores to spare.
Avoid: a machine whose cores are busy already; data sets that cannot be pickled where workers are
    spawned; iterable data sets that do not share their samples out among workers (each would yield
    all).
Safety: reseeded. The samples stay; random transforms draw from each worker's own seed, and with
    persistent workers the order from the second epoch on is another random one (not where
    `--apply` adds them). On a CPU that then computes with fewer threads, sums are added in
    another order.
Place: system. It changes when batches are made, not what is trained.
Source: recorded traces of ResNet-50 on a V100 (PyTorch 1.8, batch 32): 178 ms a step without
    workers, 141 with 4; MosaicML Composer's tutorial on traces: from 0 to 8 workers the wait
    becomes "almost invisible"; one blog: 2.48x with 8; Lotus (IISWC 2024): flat beyond about 20.
"""

from __future__ import annotations

import math
from dataclasses import replace

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, plenty
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import Pipeline, best_workers, ceiling, workers_gain
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.ceilings import ceilings
from speedprof.profiler.loader_marks import BY_WORKERS, FLAG
from speedprof.profiler.run import Loader, Run

MOST_WORKERS = 16  # one loader; published gains flatten below 20 (Lotus)
READERS_PER_CORE = (
    2.0  # workers that wait for storage may outnumber cores (SageMaker: up to 200 %)
)
MEMORY_SHARE = 0.5  # of the free memory that batches under way may take
WORTH = 1.03
FEWEST = 2  # where a trace tells too little for a model: one worker has no slack


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None and run.kind == "trace":
        return _of_a_trace(run)
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    hindrance = _hindrance(run, loader)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    pipeline = facts.pipeline(run, loader)
    if pipeline is None:
        return Misfit(
            reason="what a batch costs to make, or how many cores there are, was not measured"
        )
    workers = best_workers(pipeline, most_workers(run, loader, pipeline))
    gain = within(run, workers_gain(pipeline, workers))
    if workers <= loader.num_workers or gain.high < WORTH:
        return Misfit(reason=_saturated(pipeline))
    fewer = facts.fewer_threads(run, pipeline, workers)
    changes: dict[str, object] = {"num_workers": workers}
    if not loader.persistent_workers:
        changes["persistent_workers"] = True
    return Fit(
        reason=(
            f"{plenty(loader.num_workers, 'worker')} now; {workers} can make the "
            f"{number(pipeline.cpu_ms)} ms "
            f"of CPU and {number(pipeline.waiting_ms)} ms of waiting per step beside the other "
            f"{number(pipeline.rest_ms)} ms{facts.threads_reason(run, fewer)}"
            f"{facts.users_word(loader, 'num_workers')}"
        ),
        gain=gain,
        parameters=changes,
        beside={} if fewer is None else {"fewer-threads": {"threads": fewer}},
        by_hand=f"{facts.loader_call(loader, **changes)}\n{facts.threads_line(fewer)}".strip(),
    )


def within(run: Run, gain: Gain) -> Gain:
    """Keep the gain below that of a step without its wait: workers free nothing else."""
    gone = ceilings(run).get("data_loading")
    if gone is None or run.phases is None:
        return gain
    most = ceiling(run.phases["data_loading"].high)
    return replace(gain, low=min(gain.low, gone.speedup_low), high=min(gain.high, most))


def _of_a_trace(run: Run) -> Fit | Misfit:
    """Advise on a loader of which only the waiting was recorded.

    In the training thread, making batches takes as long as the thread is in the loader: twice as
    many workers as that needs beside the rest of the step, for what the rest slows down.
    """
    gone, used = ceilings(run).get("data_loading"), run.gpu_use
    makers = run.environment.flags.get(FLAG)
    if makers is None or gone is None:
        return Misfit(reason="the trace does not show that a DataLoader makes the batches")
    gain = Gain(
        low=gone.speedup_low,
        high=gone.speedup_high,
        model=f"the step without its wait for data, from the timeline: {number(gone.low_ms)} to "
        f"{number(gone.high_ms)} ms; the longer one if the rest slows down as it did elsewhere",
    )
    if makers == BY_WORKERS:
        return Fit(
            reason="the workers deliver too late: more of them, where there are cores to spare",
            gain=replace(gain, low=1.0),
            by_hand="# in DataLoader(...): more than now, as long as cores are free\n"
            "num_workers=..., persistent_workers=True,",
        )
    making = used.loader_ms if used is not None else 0.0
    workers = min(max(FEWEST, math.ceil(2.0 * making / gone.low_ms)), MOST_WORKERS)
    return Fit(
        reason=f"the training thread makes its own batches; {workers} workers would make them "
        "while the step runs, where there are cores to spare",
        gain=gain,
        parameters={"num_workers": workers, "persistent_workers": True},
        by_hand=f"# in DataLoader(...):\nnum_workers={workers}, persistent_workers=True,",
    )


def _hindrance(run: Run, loader: Loader) -> str | None:
    """Return why workers cannot be added at all, None where they can."""
    if loader.iterable and loader.num_workers == 0:
        return (
            f"{loader.dataset} is iterable: unless it shares its samples out with "
            "get_worker_info(), "
            "every worker would yield all of them"
        )
    if loader.picklable is False and _must_pickle(run, loader):
        return f"{loader.dataset} cannot be pickled, and workers are not forked here"
    return None


def _must_pickle(run: Run, loader: Loader) -> bool:
    """Tell whether workers get the data set by pickle: not forked, as before Python 3.14."""
    if loader.start_method is not None:
        return loader.start_method != "fork"
    major, minor = (run.environment.python or "3.0").split(".")[:2]
    return (int(major), int(minor)) >= (3, 14)


def most_workers(run: Run, loader: Loader, pipeline: Pipeline) -> int:
    """Return how many workers are sensible: by cores, or by memory where batches are large."""
    waiting = pipeline.waiting_ms > pipeline.cpu_ms
    most = min(MOST_WORKERS, round(pipeline.cores * (READERS_PER_CORE if waiting else 1.0)))
    free = facts.available_bytes(run)
    if free is not None and loader.batch_bytes:
        under_way = (loader.prefetch_factor or 2) * loader.batch_bytes
        most = min(most, int(MEMORY_SHARE * free / under_way))
    return max(most, 1)


def _saturated(pipeline: Pipeline) -> str:
    return (
        f"more workers than {pipeline.workers} gain nothing: each step needs "
        f"{number(pipeline.cpu_ms)} ms of CPU for its batches beside {number(pipeline.rest_ms)} "
        "ms of other "
        f"work on {plenty(round(pipeline.cores, 1), 'core')}"
    )


MITIGATION = remedy(
    "loader-workers",
    __doc__,
    treats=(("data_loading", "storage"), ("data_loading", "cpu_preparation")),
    assess=assess,
    how="patch",
    conflicts=("in-process-loading",),
)
