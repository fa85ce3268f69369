"""What a run says of all its training processes together."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from speedprof.profiler import arithmetic
from speedprof.profiler import record_facts as facts
from speedprof.profiler.communication import missing, missing_sentence
from speedprof.profiler.inside_phases import host_unseen, shown
from speedprof.profiler.ranks import SPLITTABLE, Trained
from speedprof.profiler.reading import read_window
from speedprof.profiler.run import (
    PHASES,
    Batch,
    Environment,
    Loader,
    Model,
    NotMeasured,
    Optimizer,
    Phase,
    StepTimes,
    SyncCall,
    Timeline,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speedprof.profiler.reading import Record
    from speedprof.profiler.reduced import ReducedWindow
    from speedprof.profiler.run import Run

UNSEEN_HOST = "the trace has no operators of the CPU, so what the GPU waits for is not known"
MOST_SYNC_CALLS, MOST_TIMELINES, MOST_BUILT = 40, 8, 20


def identity(parts: list[Trained], started: float) -> dict[str, Any]:
    """Return who trained, on what, and how steps were told apart."""
    first = parts[0]
    process = first.record.last("process", facts.Process)
    assert process is not None
    end = first.record.last("end", facts.End)
    begins = first.begins_unix
    size = world_size(parts)
    return {
        "world_size": size,
        "ranks": [part.rank for part in parts],
        "missing_ranks": missing(size, _ranks(parts)),
        "device": first.rank.device,
        "step_definition": end.step_definition if end else None,
        "startup_s": max(0.0, begins - started) if begins and started else None,
        "environment": Environment(
            python=process.python,
            torch=process.torch,
            cuda=process.cuda,
            torchvision=process.torchvision,
            threads=process.threads,
            flags=flags(first.record),
        ),
        "optimizers": _optimizers(first.record),
        "models": models(first.record),
    }


def flags(record: Record) -> dict[str, str]:
    """Return the process's flags, the later word on each."""
    process = record.last("process", facts.Process)
    found = dict(process.flags) if process else {}
    for told in record.all("flags", facts.Flags):
        found.update(told.flags)
    return found


def _optimizers(record: Record) -> list[Optimizer]:
    kept = {told.optimizer: told.kept for told in record.all("gradients", facts.Gradients)}
    found = record.all("optimizer", Optimizer)[:MOST_BUILT]
    return [
        msgspec.structs.replace(optimizer, keeps_gradients=kept.get(number))
        for number, optimizer in enumerate(found)
    ]


def models(record: Record) -> list[Model]:
    """Return the models, the one whose gradients are exchanged with how often they are not."""
    found = record.all("model", Model)[-MOST_BUILT:]
    told = record.last("exchange", facts.Exchanged)
    if told is None or not told.backwards:
        return found
    share = told.unsynchronised / told.backwards
    last = max((n for n, model in enumerate(found) if model.exchange), default=None)
    return [
        msgspec.structs.replace(
            model, exchange=msgspec.structs.replace(model.exchange, unsynchronised=share)
        )
        if number == last and model.exchange is not None
        else model
        for number, model in enumerate(found)
    ]


def batch(part: Trained, loaders: Sequence[Loader]) -> Batch | None:
    """Return what the batches of the loader that fed most training steps were made of."""
    training = [loader for loader in loaders if loader.role == "training"]
    most = max(training, key=lambda loader: loader.batches, default=None)
    told = {fact.number: fact for fact in part.record.all("batch", facts.BatchFact)}
    if most is None or most.number not in told:
        return None
    fact = told[most.number]
    return Batch(
        shapes=fact.shapes,
        dtypes=fact.dtypes,
        distinct=fact.distinct,
        looked_at=fact.looked_at,
        padding=fact.padding,
    )


def world_size(parts: list[Trained]) -> int:
    return max(len(parts), *(part.world_size for part in parts))


def _ranks(parts: list[Trained]) -> list[int]:
    return [part.rank.rank for part in parts]


def remarks(parts: list[Trained]) -> list[str]:
    """Return what is to be said of the processes, ranks that are missing first."""
    absent = missing_sentence(world_size(parts), _ranks(parts))
    said = [remark for part in parts for remark in part.remarks]
    return [absent, *said] if absent else said


def measures(parts: list[Trained], *, recorded: bool = False) -> dict[str, Any]:
    """Return the counts and means of the first rank, and the timelines of all.

    `recorded` is a run made of traces, which do not tell of garbage collections.
    """
    first = parts[0]
    return {
        "steps": first.steps,
        "warmup_steps": first.warmup,
        "traced_steps": first.traced,
        "windows": len(first.windows),
        "updates_per_step": first.updates_per_step,
        "batches_per_step": first.batches_per_step,
        "backwards_per_step": first.means["backwards"] or None,
        "series": first.series,
        "garbage_ms": first.means["garbage"] / 1e6 if first.steps and not recorded else None,
        "timelines": _timelines(parts),
    }


def step_times_of_all(parts: list[Trained]) -> StepTimes | None:
    """Return the first rank's step times, with the samples of all ranks."""
    first = parts[0].rank.step_ms
    rates = [part.rank.step_ms.samples_per_s for part in parts if part.rank.step_ms is not None]
    known = [rate for rate in rates if rate is not None]
    if first is None or len(known) < len(parts):
        return first
    return msgspec.structs.replace(first, samples_per_s=sum(known))


def mean_phases(parts: list[Trained]) -> dict[str, Phase] | None:
    """Return the mean of the ranks' phases.

    Ranks wait for each other, so their intervals are not independent: the mean of the bounds is
    kept, which is never too narrow.
    """
    known = [part.rank.phases for part in parts if part.rank.phases is not None]
    if not known:
        return None
    return {
        name: Phase(
            **{
                field: float(np.mean([getattr(phases[name], field) for phases in known]))
                for field in ("share", "low", "high", "ms")
            }
        )
        for name in PHASES
    }


def _timelines(parts: list[Trained]) -> list[Timeline]:
    """Return one step of each of the first ranks."""
    found = [_middle(part, part.windows) for part in parts[:MOST_TIMELINES]]
    return [timeline for timeline in found if timeline is not None]


def _middle(part: Trained, windows: Sequence[ReducedWindow]) -> Timeline | None:
    """Return the step of the window whose wall time is the median."""
    drawn = [window.timeline for window in windows if window.timeline is not None]
    drawn.sort(key=lambda timeline: timeline.wall_ms)
    if not drawn:
        return None
    return msgspec.structs.replace(drawn[(len(drawn) - 1) // 2], rank=part.rank.rank)


def with_late_step(run: Run, parts: list[Trained]) -> Run:
    """Draw a step of the late rank, too, where it is not among the first ranks."""
    late = run.communication.late_rank if run.communication is not None else None
    part = next((part for part in parts if part.rank.rank == late), None)
    if part is None or any(timeline.rank == late for timeline in run.timelines):
        return run
    windows = [window for file in part.files if (window := read_window(file)) is not None]
    step = _middle(part, [window for window in windows if window.unusable is None])
    if step is None:
        return run
    kept = run.timelines[: MOST_TIMELINES - 1]
    return msgspec.structs.replace(run, timelines=[*kept, step])


def sync_calls(part: Trained, folders: Sequence[str]) -> list[SyncCall]:
    """Return the lines that wait for the device, costliest first."""
    last = {(fact.what, fact.where): fact for fact in part.record.all("sync_call", facts.SyncFact)}
    if not part.steps:
        return []
    found = [
        SyncCall(
            what=fact.what,
            where=shown(fact.where, folders),
            calls_per_step=fact.count / part.steps,
            ms_per_step=fact.ns / part.steps / 1e6,
        )
        for fact in last.values()
    ]
    found.sort(key=lambda call: -call.ms_per_step)
    return found[:MOST_SYNC_CALLS]


def relative(loader: Loader, folders: Sequence[str]) -> Loader:
    """Show where a loader was built as the user would write it."""
    where = shown(loader.where, folders) if loader.where else None
    return msgspec.structs.replace(loader, where=where)


def script_folders(part: Trained) -> list[str]:
    """Return the folder of the process's script, where it is known."""
    process = part.record.last("process", facts.Process)
    script = process.argv[0] if process and process.argv else ""
    return [os.path.dirname(script)] if os.path.isabs(script) else []


def texts(part: Trained, name: str) -> list[str]:
    return [fact.text for fact in part.record.all(name, facts.Text)]


def training_times(parts: list[Trained], started: float) -> dict[str, tuple[float, float]]:
    """Return, by node, from when to when it trained, in seconds since the run began."""
    times: dict[str, list[float]] = defaultdict(list)
    for part in parts:
        if part.begins_unix is not None and part.ends_unix is not None:
            times[part.rank.node] += [part.begins_unix - started, part.ends_unix - started]
    return {node: (min(moments), max(moments)) for node, moments in times.items()}


def not_measured(parts: list[Trained], *, recorded: bool = False) -> list[NotMeasured]:
    """Say what could not be seen, and why; `recorded` is a run made of traces."""
    split = parts[0].breakdown.split if parts and parts[0].breakdown is not None else None
    if split is None:
        return [NotMeasured(what="phases", why="no training step was seen")]
    first = parts[0]
    device = first.rank.device
    found = []
    if not split:
        why = _why_no_window(first)
        found.append(NotMeasured(what="host", why=f"its time is inside compute: {why}"))
        if max(part.world_size for part in parts) > 1:
            found.append(NotMeasured(what="communication", why=f"it is inside compute: {why}"))
        if device != "cpu":
            found.append(NotMeasured(what="host_to_device", why=f"it is inside compute: {why}"))
    if device == "cpu":
        why = "no GPU was recorded" if recorded else "the training used no GPU"
        found.append(NotMeasured(what="host_to_device", why=why))
    if max(part.world_size for part in parts) == 1 and split:
        found.append(NotMeasured(what="communication", why="one process trained alone"))
    unknown = arithmetic.of_ranks(parts)[1] if split else None
    if unknown is not None:
        found.append(unknown)
    return found + (_unrecorded(parts) if recorded else [])


def _unrecorded(parts: list[Trained]) -> list[NotMeasured]:
    """Say what no trace tells; `speedprof run` measures it."""
    why = "a recorded trace does not tell; `speedprof run` measures it"
    found = [NotMeasured(what=what, why=why) for what in ("machine", "loader", "source_lines")]
    if host_unseen(parts):
        found.insert(0, NotMeasured(what="idle_time", why=UNSEEN_HOST))
    return found


def _why_no_window(part: Trained) -> str:
    """Say why no step was split by torch.profiler."""
    if part.rank.device not in SPLITTABLE:
        return f"torch.profiler's windows do not show what {part.rank.device} devices do"
    unusable = next((w for w in part.unusable if w), None)
    if unusable is not None:
        return unusable
    told = part.record.last("no_window", facts.NoWindow)
    if told is not None:
        return told.why
    if part.traced:
        return "the run ended before the steps that were being traced"
    return "no step was traced (the run was too short, or --no-windows)"
