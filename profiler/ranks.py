"""One training process, from its record and its windows to what a run says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from sys import intern
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from speedprof.profiler import record_facts as facts
from speedprof.profiler import traced_steps
from speedprof.profiler.batch_sources import batch_sources
from speedprof.profiler.collective_calls import calls_of
from speedprof.profiler.phases import Breakdown, breakdown
from speedprof.profiler.record import COLUMN, DISTURBED, TRACED
from speedprof.profiler.run import Rank, StepSeries, StepTimes
from speedprof.profiler.statistics import step_times

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from speedprof.profiler.collective_calls import Calls
    from speedprof.profiler.reading import Record
    from speedprof.profiler.reduced import ReducedWindow
    from speedprof.profiler.stacks import Source

MOST_POINTS = 2_000
MOST_LINES = 40  # of a window, of a rank that is one of many
SPLITTABLE = ("cpu", "cuda", "rocm")  # whose activity torch.profiler's windows show


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One process's part of the run."""

    rank: Rank
    world_size: int
    record: Record  # without its rows
    steps: int
    warmup: int  # steps left out
    traced: int
    windows: list[ReducedWindow]  # that can be used, without their collectives
    calls: Calls  # these
    unusable: list[str]  # why others cannot
    sources: frozenset[Source]
    breakdown: Breakdown | None
    series: StepSeries | None
    means: dict[str, float]  # of the record's columns, per step
    updates_per_step: float | None
    batches_per_step: float | None
    begins_unix: float | None
    ends_unix: float | None
    remarks: list[str]
    files: tuple[Path, ...] = ()  # of the windows


def trained(
    record: Record,
    windows: Sequence[ReducedWindow],
    warmup: int,
    *,
    most_collectives: int | None = None,
) -> Trained | None:
    """Sum up one process; None where it made no step and used no loader.

    The record's rows are forgotten, and all but the last `most_collectives`: memory stays bounded
    however many ranks there are.
    """
    process = record.last("process", facts.Process)
    if process is None or (not len(record.rows) and not record.facts.get("loader")):
        return None
    device = _device(record, process)
    remarks: list[str] = []
    rows, kept = record.rows, _steady(record, warmup, remarks)
    usable = [w for w in windows if w.unusable is None and device in SPLITTABLE]
    sources = batch_sources(usable)
    traced = rows[(record.column("flags") & TRACED) > 0]
    parts = None
    if len(kept):
        parts = breakdown(kept, usable, sources, traced=traced, device=device)
        remarks += traced_steps.unlike(kept, traced, usable)
    ranked = record.last("rank", facts.RankFact)
    steps = _steps(rows)
    result = Trained(
        rank=_rank(record, process, step_ms=_step_ms(kept), breakdown=parts),
        world_size=ranked.world_size if ranked else process.world_size,
        record=record,
        steps=steps,
        warmup=min(warmup, steps),
        traced=_steps(traced),
        windows=[msgspec.structs.replace(window, collectives=[]) for window in usable],
        calls=calls_of(usable, sources, most=most_collectives),
        unusable=[w.unusable for w in windows if w.unusable is not None],
        sources=sources,
        breakdown=parts,
        series=_series(rows),
        means=_means(kept),
        updates_per_step=_per_step(rows, "updates"),
        batches_per_step=_per_step(kept if len(kept) else rows, "batches"),
        begins_unix=_unix(process, rows[0, COLUMN["start"]]) if steps else None,
        ends_unix=_unix(process, _end(rows)) if steps else None,
        remarks=remarks,
    )
    record.forget_rows()
    return result


def slim(part: Trained) -> Trained:
    """Leave out what is shown of the first ranks only: pictures, old facts, rare lines."""
    last = {name: told[-1:] for name, told in part.record.facts.items()}
    return replace(
        part,
        windows=[_slim(window) for window in part.windows],
        series=None,
        record=replace(part.record, facts=last),
    )


def _slim(window: ReducedWindow) -> ReducedWindow:
    """Ranks run the same code, so each name is kept once for all of them."""
    edit = msgspec.structs.replace
    lines = [
        edit(
            line,
            file=intern(line.file),
            function=intern(line.function),
            code=None if line.code is None else intern(line.code),
        )
        for line in window.lines[:MOST_LINES]
    ]
    operators = [edit(o, name=intern(o.name), kind=intern(o.kind)) for o in window.operators]
    return edit(
        window,
        lines=lines,
        operators=operators,
        timeline=None,
        labels=[intern(label) for label in window.labels],
        segments=[intern(segment) for segment in window.segments],
    )


def _rank(
    record: Record,
    process: facts.Process,
    *,
    step_ms: StepTimes | None,
    breakdown: Breakdown | None,
) -> Rank:
    ranked = record.last("rank", facts.RankFact)
    memory = record.last("memory", facts.Memory) or facts.Memory()
    return Rank(
        rank=ranked.rank if ranked else process.rank,
        node=process.host,
        pid=process.pid,
        device=_device(record, process),
        steps=_steps(record.rows),
        step_ms=step_ms,
        phases=breakdown.phases if breakdown else None,
        peak_memory_bytes=memory.peak_bytes,
        peak_device_bytes=memory.peak_device_bytes,
        device_memory_bytes=memory.device_bytes,
    )


def _steps(rows: NDArray[np.int64]) -> int:
    return int(rows[:, COLUMN["count"]].sum())


def _steady(record: Record, warmup: int, remarks: list[str]) -> NDArray[np.int64]:
    """Return the rows after warm-up that no window touched; fewer demands where there are none."""
    rows = record.rows
    warm: NDArray[np.bool_] = np.cumsum(record.column("count")) > warmup
    untraced: NDArray[np.bool_] = (record.column("flags") & (TRACED | DISTURBED)) == 0
    if (warm & untraced).any():
        return rows[warm & untraced]
    if warm.any():
        which = "all steps after warm-up" if warmup else "all steps"
        remarks.append(f"{which} were traced, so step times include what tracing costs")
        return rows[warm]
    remarks.append(f"the run ended within its {warmup} warm-up steps, so they are counted")
    return rows[untraced] if untraced.any() else rows


def _step_ms(rows: NDArray[np.int64]) -> StepTimes | None:
    return step_times(*(rows[:, COLUMN[name]] for name in ("wall", "count", "samples")))


def _device(record: Record, process: facts.Process) -> str:
    told = record.last("device", facts.Device)
    device = told.device if told else process.device
    return "rocm" if device == "cuda" and process.hip else device


def _means(rows: NDArray[np.int64]) -> dict[str, float]:
    steps = max(int(rows[:, COLUMN["count"]].sum()), 1)
    return {name: float(rows[:, index].sum()) / steps for name, index in COLUMN.items()}


def _per_step(rows: NDArray[np.int64], name: str) -> float | None:
    seen = int(rows[:, COLUMN[name]].sum())
    return seen / int(rows[:, COLUMN["count"]].sum()) if seen else None


def _unix(process: facts.Process, at: np.int64) -> float | None:
    ours, theirs = process.clock
    return (int(at) - ours + theirs) / 1e9 if theirs else None


def _end(rows: NDArray[np.int64]) -> np.int64:
    end: np.int64 = (rows[:, COLUMN["start"]] + rows[:, COLUMN["wall"]]).max()
    return end


def _series(rows: NDArray[np.int64]) -> StepSeries | None:
    """Thin the steps to MOST_POINTS means of neighbours."""
    if not len(rows):
        return None
    points = min(len(rows), MOST_POINTS)
    group = np.arange(len(rows)) * points // len(rows)
    steps = np.bincount(group, rows[:, COLUMN["count"]])

    def mean_ms(*names: str) -> list[float]:
        total = sum(rows[:, COLUMN[name]] for name in names)
        each: list[float] = (np.bincount(group, total) / steps / 1e6).round(4).tolist()
        return each

    first = np.searchsorted(group, np.arange(points))
    start = rows[first, COLUMN["start"]] - rows[0, COLUMN["start"]]
    return StepSeries(
        start_s=(start / 1e9).round(6).tolist(),
        wall_ms=mean_ms("wall"),
        input_wait_ms=mean_ms("input_wait", "input_start"),
        outside_ms=mean_ms("checkpoint", "evaluation", "between"),
        traced=(np.bincount(group, rows[:, COLUMN["flags"]] & TRACED) > 0).tolist(),
    )
