"""What the wait for a batch is made of: start-up, hand-off, storage, preparation, a busy CPU."""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.advisor.shares import step_ms
from speedprof.profiler.run import Line, Loader, Run

# Workers that are busy less than this do not hold the training thread up by producing too slowly:
# a loader that limits the step keeps its workers busy nearly all the time, and 0.6 leaves room for
# the uneven batches (5-15 % spread in Lotus' measurements) and for the refill after each
# evaluation.
WORKERS_BUSY = 0.6
# Collating in a worker writes the batch into shared memory: where that outweighs making the
# samples and the batch is this large, the cost is the hand-off. 8 MiB is about where a copy leaves
# every cache behind.
HANDOFF_BYTES = 8 << 20
COLLATE_OUTWEIGHS = 0.6
# A wait that could be storage or a busy CPU is taken for storage only where cores were free.
CORES_FREE_BELOW = 0.9
# Stack samples must explain at least this much of a phase before they name its cause.
LINES_COVER = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Fractions of the data-loading phase; together at most 1, the rest is unexplained."""

    startup: float = 0.0
    handoff: float = 0.0
    storage: float = 0.0
    preparation: float = 0.0
    queueing: float = 0.0
    busy: float | None = None  # of the workers, 0..1
    where: str | None = None


def explain(run: Run) -> Loading | None:
    """Split the data-loading phase by cause; None where nothing was measured that could tell."""
    if run.phases is None:
        return None
    loader = run.training_loader()
    if run.input_kind in ("generator", "function") or loader is None:
        return _from_lines(run)
    startup = startup_fraction(run, loader)
    rest = 1.0 - startup
    if not _measured(loader):
        lines = _from_lines(run) if loader.num_workers == 0 else None
        return lines or (Loading(startup=startup, where=loader.where) if startup else None)
    busy = workers_busy(run, loader)
    if _handed_over_slowly(loader, busy):
        return Loading(startup=startup, handoff=rest, busy=busy, where=loader.where)
    storage, preparation, queueing = _production(run, loader)
    return Loading(
        startup=startup,
        storage=rest * storage,
        preparation=rest * preparation,
        queueing=rest * queueing,
        busy=busy,
        where=loader.where,
    )


def epoch_start_ms(loader: Loader) -> float | None:
    """Return what each `iter()` costs beyond making the first batch, None where not measured."""
    if loader.num_workers == 0 or loader.startup_ms is None:
        return None
    until_first = max(loader.startup_ms, loader.first_batch_ms or 0.0)
    production = production_ms(loader)
    return max(loader.startup_ms, until_first - (production or 0.0))


def startup_fraction(run: Run, loader: Loader) -> float:
    """Return the part of the phase that starting workers again takes, without the first start."""
    start = epoch_start_ms(loader)
    phase = run.phases["data_loading"].ms if run.phases else 0.0
    counted = run.steps - run.warmup_steps
    if start is None or loader.persistent_workers or counted <= 0 or phase <= 0:
        return 0.0
    # the first start is in the warm-up, and so are those of short epochs
    starts = min(max(loader.iterations - 1, 0) / counted, loader.iterations / run.steps)
    return min(1.0, start * starts / phase)


def production_ms(loader: Loader) -> float | None:
    """Return the wall time of making one batch in one worker, None where not measured."""
    if loader.getitem_ms is None and loader.collate_ms is None:
        return None
    return (loader.getitem_ms or 0.0) + (loader.collate_ms or 0.0)


def preparation_cpu_ms(loader: Loader) -> float | None:
    """Return the CPU time of one batch, None where not measured."""
    if loader.getitem_cpu_ms is None and loader.collate_cpu_ms is None:
        return None
    return (loader.getitem_cpu_ms or 0.0) + (loader.collate_cpu_ms or 0.0)


def waiting_ms(run: Run, loader: Loader) -> float | None:
    """Return how long making one batch waits for storage, None where that cannot be told."""
    if loader.storage_wait_ms is not None:
        return loader.storage_wait_ms
    wall, cpu = production_ms(loader), preparation_cpu_ms(loader)
    if wall is None or cpu is None:
        return None
    if loader.queued_ms is not None:
        return max(0.0, wall - cpu - loader.queued_ms)
    load = cpu_load(run)
    return max(0.0, wall - cpu) if load is not None and load < CORES_FREE_BELOW else None


def cpu_load(run: Run) -> float | None:
    """Return the mean load of the busiest machine, 0..1 of all its cores."""
    loads = [machine.cpu_load for machine in run.machines if machine.cpu_load is not None]
    return max(loads, default=None)


def workers_busy(run: Run, loader: Loader) -> float | None:
    """Return the part of the time that each worker is making batches, None without workers."""
    production, mean = production_ms(loader), step_ms(run)
    if loader.num_workers == 0 or production is None or mean is None or run.phases is None:
        return None
    starting = startup_fraction(run, loader) * run.phases["data_loading"].ms
    active = mean - run.phases["outside"].ms - starting
    if active <= 0:
        return None
    return production * (run.batches_per_step or 1.0) / (loader.num_workers * active)


def data_lines(run: Run) -> list[Line]:
    """Return the source lines seen while the training thread was getting its batch."""
    return [line for line in run.lines if line.phase == "data_loading"]


def _measured(loader: Loader) -> bool:
    return production_ms(loader) is not None and preparation_cpu_ms(loader) is not None


def _handed_over_slowly(loader: Loader, busy: float | None) -> bool:
    if busy is None:
        return False
    if busy < WORKERS_BUSY:
        return True
    production = production_ms(loader) or 0.0
    return (
        production > 0
        and (loader.batch_bytes or 0) >= HANDOFF_BYTES
        and (loader.collate_ms or 0.0) / production >= COLLATE_OUTWEIGHS
    )


def _production(run: Run, loader: Loader) -> tuple[float, float, float]:
    """Split the making of a batch: waiting for storage, computing, waiting for a core."""
    cpu, queued = preparation_cpu_ms(loader) or 0.0, loader.queued_ms or 0.0
    waiting = waiting_ms(run, loader)
    total = max(production_ms(loader) or 0.0, cpu + queued + (waiting or 0.0))
    if total <= 0:
        return (0.0, 0.0, 0.0)
    return ((waiting or 0.0) / total, cpu / total, queued / total)


def _from_lines(run: Run) -> Loading | None:
    lines, share = data_lines(run), run.share("data_loading")
    seen = sum(line.share for line in lines)
    if not share or seen <= 0 or seen < LINES_COVER * share:
        return None
    waiting = sum(line.share for line in lines if line.kind == "waiting") / seen
    top = max(lines, key=lambda line: line.share)
    return Loading(storage=waiting, preparation=1.0 - waiting, where=top.where)
