"""`speedprof list`: the runs in a folder, the newest last."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speedprof.commands.closing import MACHINE, colored, view_of, width
from speedprof.profiler import run_folder
from speedprof.profiler.errors import SpeedprofError
from speedprof.reports.wording import DASH, PHASE_NAMES

if TYPE_CHECKING:
    from rich.table import Table


@click.command("list")
@click.argument("folder", default=run_folder.DEFAULT_PARENT)
def command(*, folder: str) -> None:
    """List the runs in FOLDER (speedprof-runs by default), the newest last."""
    from rich.console import Console

    found = run_folder.runs(Path(folder))
    if not found:
        raise SpeedprofError(f"no run in {folder}; `speedprof run train.py` makes one")
    console = Console(
        width=width(1) if colored(1) else max(width(1), 120),
        color_system="auto" if colored(1) else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(_table(found))


def _table(found: list[Path]) -> Table:
    from rich.table import Table

    from speedprof.reports.escape import visible

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("started", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("steps", justify="right")
    table.add_column("ms/step", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for path in found:
        table.add_row(*(visible(cell) for cell in _row(path)))
    return table


def _row(folder: Path) -> tuple[str, ...]:
    """Return a run's cells; what is wrong with a damaged one stands for its verdict."""
    started = _started(folder)
    try:
        report = _report(folder)
    except SpeedprofError as error:
        return started, folder.name, DASH, DASH, str(error)
    facts = report.get("run") or {}
    if not isinstance(facts, dict):
        return (
            started,
            folder.name,
            DASH,
            DASH,
            "its report is damaged; `speedprof report` remakes it",
        )
    step_ms = (facts.get("step_ms") or {}).get("median")
    return (
        started,
        folder.name,
        f"{facts.get('steps') or 0:,}",
        DASH if step_ms is None else f"{step_ms:,.4g}",
        _verdict(report),
    )


def _verdict(report: dict[str, object]) -> str:
    """Return what the run suffers from in a few words, or why nothing is said."""
    found = report.get("bottleneck")
    if not isinstance(found, dict) or not found.get("phase"):
        return str(report.get("verdict") or DASH)
    phase = PHASE_NAMES.get(str(found["phase"]), str(found["phase"]))
    cause = found.get("cause")
    name = f"{phase}: {str(cause).replace('_', ' ')}" if cause else phase
    share = found.get("share")
    return f"{name}, {share:.0%}" if isinstance(share, float) else name


def _report(folder: Path) -> dict[str, object]:
    """Return report.json, made in memory where the run was killed before it was written."""
    try:
        loaded = json.loads((folder / MACHINE).read_text("utf-8"))
    except (OSError, ValueError):
        from speedprof.reports.to_json import render

        loaded = json.loads(render(view_of(folder)))
    return loaded if isinstance(loaded, dict) else {}


def _started(folder: Path) -> str:
    try:
        at = json.loads((folder / run_folder.START).read_text("utf-8"))["started_at"]
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OSError, ValueError, KeyError, TypeError):
        return DASH
