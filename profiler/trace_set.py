"""Many recorded traces, one for each rank, reduced on all cores into one run folder."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speedprof.profiler import run_folder, trace_run
from speedprof.profiler.trace_json import UnreadableTraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from speedprof.profiler.trace_run import Source, Taken

MOST_NOTES = 20
APART_S = (
    600.0  # the ranks of a job are recorded in the same steps; no two clocks are so far apart
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A file that is no trace, and why."""

    path: Path
    why: str


def analyze(
    sources: Sequence[Source],
    folder: Path,
    *,
    name: str,
    version: str,
    progress: Callable[[int], None],
) -> list[Refused]:
    """Reduce the traces into the folder, which becomes a run; return those that are none.

    `progress` is told after each file how many are done. Raise UnreadableTraceError where not one
    is a trace, OSError where the folder cannot be written.
    """
    began = time.time()
    taken: list[Taken] = []
    refused: list[Refused] = []
    for done, result in enumerate(_results(sources, folder), 1):
        if isinstance(result, Refused):
            refused.append(result)
        else:
            taken.append(result)
        progress(done)
    if not taken:
        raise UnreadableTraceError(_none(refused))
    starts = [t.began_unix for t in taken if t.began_unix is not None]
    run_folder.write_start(
        folder,
        [str(source.path) for source in sources],
        name=name,
        started_at=min(starts, default=began),
        options={"warmup": 0},
        version=version,
        kind="trace",
    )
    notes = _notes(taken, refused)
    run_folder.write(
        folder / run_folder.END, {"wall_s": None, "exit_status": None, "notes": notes}
    )
    return refused


def _none(refused: Sequence[Refused]) -> str:
    if len(refused) == 1:
        return refused[0].why
    return f"none of these {len(refused)} files is a trace; the first: {refused[0].why}"


def _results(sources: Sequence[Source], folder: Path) -> Iterator[Taken | Refused]:
    cores = len(os.sched_getaffinity(0))
    if len(sources) == 1 or cores == 1:
        for source in sources:
            yield _take(source, folder)
        return
    spawn = multiprocessing.get_context("spawn")  # no thread of ours may hold a lock in a child
    workers = min(cores, len(sources))
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        jobs = [pool.submit(_take, source, folder) for source in sources]
        for job in concurrent.futures.as_completed(jobs):
            yield job.result()


def _take(source: Source, folder: Path) -> Taken | Refused:
    try:
        return trace_run.take(source, folder)
    except UnreadableTraceError as error:
        return Refused(path=source.path, why=str(error))


def _notes(taken: Sequence[Taken], refused: Sequence[Refused]) -> list[str]:
    """Return what a reader must know of the set, the least expected first."""
    found = [f"left out: {one.why}" for one in refused]
    doubt = _not_one_job(taken)
    if doubt is not None:
        found.append(f"{doubt}, so they are hardly of one job; analyze those of each job alone")
    for rank, times in Counter(t.rank for t in taken).items():
        if times > 1:
            found.append(f"{times} traces are of rank {rank}; the one with most steps is shown")
    notes = [note for t in sorted(taken, key=lambda t: t.rank) for note in t.notes]
    return [*found, *notes][:MOST_NOTES]


def _not_one_job(taken: Sequence[Taken]) -> str | None:
    """Say why these can hardly be the ranks of one job; None where nothing speaks against it."""
    sizes = sorted({t.world_size for t in taken})
    if len(sizes) > 1:
        return f"these traces say that there are {', '.join(map(str, sizes))} ranks"
    begins = {t.rank: t.began_unix for t in taken if t.began_unix is not None}
    apart = max(begins.values(), default=0.0) - min(begins.values(), default=0.0)
    if apart > APART_S:
        return f"these traces begin up to {apart / 3600:.1f} hours apart"
    return None
