"""From a run folder to a `Run`: everything that rules, remedies and reports may ask for.

Nothing here trusts a file. A run that was cut short, or whose files are damaged, gives what is
left of it, and says in `notes` what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from speedprof.profiler import (
    inside_phases,
    reading,
    reduction,
    run_folder,
    run_parts,
    run_tuning,
    run_whatif,
)
from speedprof.profiler.applied_facts import in_force
from speedprof.profiler.batch_sources import input_kind
from speedprof.profiler.communication import communication
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.loaders import costs, loaders
from speedprof.profiler.machines import machines
from speedprof.profiler.rank_reading import read_ranks
from speedprof.profiler.roofs import cache
from speedprof.profiler.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from speedprof.profiler.ranks import Trained
    from speedprof.profiler.run_tuning import Tuning
    from speedprof.profiler.run_whatif import WhatIf

DEFAULT_WARMUP = 10  # of `speedprof run`
MOST_NOTES = 50


def load(folder: Path) -> Run:
    """Read a run; raise SpeedprofError where there is none, or a newer speedprof made it."""
    start = reading.json_object(folder / run_folder.START)
    if start is None:
        raise SpeedprofError(
            f"no run in {folder}: {run_folder.START} is missing or damaged; "
            "`speedprof run train.py` makes a run"
        )
    reading.refuse_newer(start.get("format"), run_folder.FORMAT, what=str(folder))
    end = reading.json_object(folder / run_folder.END)
    notes = _texts(end.get("notes")) if end else []
    reduction.reduce_folder(folder)
    parts = read_ranks(folder, _warmup(start), notes)
    return _run(folder, start, end, parts, notes)


def _run(
    folder: Path,
    start: dict[str, Any],
    end: dict[str, Any] | None,
    parts: list[Trained],
    notes: list[str],
) -> Run:
    cwd, started = _text(start.get("cwd")), _number(start.get("started_at")) or 0.0
    spent, lost_lines = costs(sorted(folder.glob("worker-*.jsonl")))
    nodes, lost_samples = machines(
        folder.glob("machine-*.jsonl"), run_parts.training_times(parts, started)
    )
    if lost_lines + lost_samples:
        notes.append(f"{lost_lines + lost_samples} lines of telemetry were damaged and left out")
    roofs, damaged = cache.load(folder / cache.FILE)
    if damaged is not None:
        notes.append(damaged)
    kind = "trace" if start.get("kind") == "trace" else "run"
    run = Run(
        folder=str(folder),
        name=_text(start.get("name")) or folder.name,
        kind=kind,
        command=_texts(start.get("command")),
        cwd=cwd,
        started_at=started,
        finished=end is not None,
        version=_text(start.get("version")),
        machines=nodes,
        roofs=roofs,
        not_measured=run_parts.not_measured(parts, recorded=kind == "trace"),
        notes=notes[:MOST_NOTES],
        whatif=_whatif(folder),
        tuning=_tuning(folder),
        **_ending(end or {}),
    )
    if not parts:
        return run
    folders = [cwd, *run_parts.script_folders(parts[0])]
    found = loaders(parts[0].record, spent, parts[0].steps)
    told = run_parts.remarks(parts) + run_parts.texts(parts[0], "note")
    whole = msgspec.structs.replace(
        run,
        **run_parts.identity(parts, started),
        **run_parts.measures(parts, recorded=kind == "trace"),
        **_insides(parts, folders),
        loaders=[run_parts.relative(loader, folders) for loader in found],
        batch=run_parts.batch(parts[0], found),
        input_kind=input_kind(
            parts[0].windows,
            parts[0].sources,
            has_loader=any(loader.role == "training" for loader in found),
        ),
        sync_calls=run_parts.sync_calls(parts[0], folders),
        changes=run_parts.texts(parts[0], "change"),
        applied=in_force(parts[0]),
        notes=list(dict.fromkeys(notes + told))[:MOST_NOTES],
    )
    return run_parts.with_late_step(whole, parts)


def _insides(parts: list[Trained], folders: list[str]) -> dict[str, Any]:
    phases = run_parts.mean_phases(parts)
    return {
        "step_ms": run_parts.step_times_of_all(parts),
        "phases": phases,
        "communication": communication(parts, phases["communication"].ms if phases else 0.0),
        "compute": inside_phases.compute(parts),
        "host": inside_phases.host(parts),
        "outside": inside_phases.outside(parts),
        "copies": inside_phases.copies(parts),
        "gpu_use": inside_phases.gpu_use(parts),
        "trace_use": inside_phases.trace_use(parts),
        "lines": inside_phases.lines(parts, folders),
    }


def _tuning(folder: Path) -> Tuning | None:
    try:
        return run_tuning.decoded((folder / run_tuning.FILE).read_bytes())
    except OSError:
        return None


def _whatif(folder: Path) -> WhatIf | None:
    try:
        return run_whatif.decoded((folder / run_whatif.FILE).read_bytes())
    except OSError:
        return None


def _ending(end: dict[str, Any]) -> dict[str, Any]:
    status = end.get("exit_status")
    return {
        "wall_s": _number(end.get("wall_s")),
        "exit_status": status if isinstance(status, int) else None,
        "stopped_by_us": end.get("stopped_by_us") is True,
    }


def _warmup(start: dict[str, Any]) -> int:
    options = start.get("options")
    given = options.get("warmup") if isinstance(options, dict) else None
    return given if isinstance(given, int) and given >= 0 else DEFAULT_WARMUP


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
