"""From recorded traces to a run folder like any other, one file of one rank after the other."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from speedprof.profiler import (
    loader_marks,
    trace_file,
    trace_gpu,
    trace_remarks,
    trace_steps,
    trace_windows,
)
from speedprof.profiler.record import FORMAT, STEP_COLUMNS, TRACED, Writer
from speedprof.profiler.reduction import reduce_window
from speedprof.profiler.trace_json import UnreadableTraceError
from speedprof.profiler.window_reading import DamagedWindowError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from speedprof.profiler.device_use import DeviceUse
    from speedprof.profiler.intervals import Spans, Times
    from speedprof.profiler.trace_file import Trace
    from speedprof.profiler.trace_steps import Steps

SUFFIXES = (".json", ".json.gz")
_RANK = re.compile(r"rank[-_]?(\d+)", re.I)
_NUMBER = re.compile(r"(?:^|[-_.])(\d{1,5})(?=[-_.])")
# what tensorboard_trace_handler puts behind its worker's name, and that name when it has no other
_HANDLED = re.compile(r"\.\d{10,}\.pt\.trace\.json(?:\.gz)?$")
_HOST_AND_PID = re.compile(r"_\d+$")
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One trace file and the rank that it is taken for."""

    path: Path
    rank: int  # where the trace does not say
    number: int  # among the run's sources, from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of one file."""

    path: Path
    rank: int
    world_size: int
    steps: int
    began_unix: float | None
    notes: list[str]


def sources(paths: Sequence[Path]) -> list[Source]:
    """Return the trace files that are meant: files as named, of a folder all that may be traces.

    Raise UnreadableTraceError where there is none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES) and p.is_file())
            if not found:
                raise UnreadableTraceError(
                    f"the folder {path} holds no .json or .json.gz; name the traces themselves"
                )
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UnreadableTraceError(f"no trace {path}; name a file or a folder of traces")
    distinct = list(dict.fromkeys(files))
    return [
        Source(path=path, rank=rank, number=number)
        for number, (path, rank) in enumerate(zip(distinct, _told_by_names(distinct), strict=True))
    ]


def _told_by_names(paths: Sequence[Path]) -> list[int]:
    """Return each file's rank; where the names do not tell, the place of its process in order.

    One process may have left several files, one for each cycle of its schedule.
    """
    processes = [str(path.with_name(_HANDLED.sub("", path.name))) for path in paths]
    told = [_told_by_name(path) for path in paths]
    known = [rank for rank in told if rank is not None]
    if len(known) == len(told) and len(set(known)) == len(set(processes)):
        return known
    place = {process: number for number, process in enumerate(dict.fromkeys(processes))}
    return [place[process] for process in processes]


def _told_by_name(path: Path) -> int | None:
    plain = _HANDLED.sub("", path.name)
    if plain != path.name:
        plain = f"{_HOST_AND_PID.sub('', plain)}."
    found = _RANK.search(path.name) or _NUMBER.search(plain)
    return int(found.group(1)) if found else None


def take(source: Source, folder: Path) -> Taken:
    """Reduce one trace into the run folder.

    Raise UnreadableTraceError where it is none, OSError where the folder cannot be written.
    """
    trace = trace_file.read(source.path)
    trace_remarks.demand_kernels(trace)
    steps = trace_steps.steps(trace)
    probed = trace_windows.probes(trace, steps)
    rank = source.rank if trace.rank is None else trace.rank
    host, pid = _host(trace), source.number + 1  # one trace is one process
    answer = None
    try:
        activity = trace_windows.gpu_activity(trace, steps)
        ends = trace_windows.crossed(activity, steps)
        who = (host, pid, rank)
        for window in trace_windows.windows(trace, steps, probed, ends, who=who):
            answer = reduce_window(window)
            name = f"window-{rank:05d}-{pid}-{answer.index:04d}.json"
            (folder / name).write_bytes(msgspec.json.encode(answer))
    except DamagedWindowError as error:
        raise UnreadableTraceError(
            f"{source.path} cannot be read: {error}; record a few whole training steps again"
        ) from error
    if answer is None:
        raise UnreadableTraceError(
            f"{source.path} ends before the GPU comes to its steps; record more of them"
        )
    world_size = trace.world_size or 1
    process = {**_described(trace), "pid": pid, "host": host, "rank": rank}
    whole = trace_gpu.whole_use(trace, activity, probed)
    rows = _rows(steps, probed, ends)
    _write_record(folder / f"rank-{rank:05d}-{pid}.rec", process, rows, whole, steps.definition)
    return Taken(
        path=source.path,
        rank=rank,
        world_size=world_size,
        steps=len(steps.boundaries) - 1,
        began_unix=_unix(trace, int(steps.boundaries[0])),
        notes=[*trace.damage, *trace_remarks.remarks(trace, steps)],
    )


def _host(trace: Trace) -> str:
    host = trace.metadata.get("host_name")
    return host if isinstance(host, str) else "recorded"


def _described(trace: Trace) -> dict[str, object]:
    """Return what the trace says of its process."""
    began = _unix(trace, 0)
    on_device = trace.on_device().any()
    return {
        "format": FORMAT,
        "world_size": trace.world_size or 1,
        "clock": [0, int(began * 1e9) if began else 0],
        "device": "cuda" if on_device else "cpu",
        "device_name": trace.device_name,
        "hip": _hip(trace),
        "cuda": _version(trace.metadata.get("cuda_runtime_version")),
        "flags": loader_marks.flags(trace.names),
    }


def _write_record(
    path: Path,
    process: dict[str, object],
    rows: NDArray[np.int64],
    whole: DeviceUse | None,
    definition: str,
) -> None:
    writer = Writer(str(path))
    try:
        writer.fact("process", process)
        for first in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[first : first + ROWS_AT_ONCE]
            writer.rows(array("q", part.astype("<i8").tobytes()))
        if whole is not None:
            writer.fact("gpu_window", msgspec.to_builtins(whole))
        writer.fact("end", {"steps": len(rows), "step_definition": definition})
    finally:
        writer.close()


def _rows(steps: Steps, probed: dict[str, Spans], ends: Times) -> NDArray[np.int64]:
    """Return a row a step, as the always-on probes would have written it.

    What the host did is cut at its own boundaries; a step is as long as the device says.
    """
    at = steps.boundaries
    rows = np.zeros((len(at) - 1, len(STEP_COLUMNS)), np.int64)
    for index, name in enumerate(STEP_COLUMNS):
        if name in probed:
            rows[:, index] = probed[name].between(at)
    counted: dict[str, Any] = {
        "start": at[:-1],
        "count": 1,
        "wall": _walls(steps, ends),
        "device_wall": -1,
        "device_input_wait": -1,
        "flags": TRACED,
        **{
            column: np.diff(np.searchsorted(probed[name].start, at))
            for name, column in (("input_wait", "batches"), ("optimizer", "updates"))
            if name in probed
        },
    }
    for name, values in counted.items():
        rows[:, STEP_COLUMNS.index(name)] = values
    return rows


def _walls(steps: Steps, ends: Times) -> NDArray[np.int64]:
    """Return how long each step is, ns; one that the device crosses in no time is 1 ns."""
    walls = np.diff(ends)
    if not walls.any():
        return np.diff(steps.boundaries)
    longest: NDArray[np.int64] = np.maximum(walls, 1)
    return longest


def _unix(trace: Trace, at_ns: int) -> float | None:
    """Return a moment of the trace in Unix seconds; None where its clock is another one's."""
    base = trace.metadata.get("baseTimeNanoseconds")
    offset = base / 1e9 if isinstance(base, (int, float)) else 0.0
    seconds = offset + trace.base_us * trace.unit_ns / 1e9 + at_ns / 1e9
    return seconds if 1e9 < seconds < 1e10 else None


def _hip(trace: Trace) -> str | None:
    """Tell ROCm from CUDA by what its runtime calls are named."""
    told = _version(trace.metadata.get("hip_runtime_version"))
    calls = Counter(name[:3] for name in trace.names if name.startswith(("hip", "cuda")))
    return told or ("unknown" if calls["hip"] > calls["cud"] else None)


def _version(written: object) -> str | None:
    return str(written) if isinstance(written, (int, str)) and written else None
