"""What `speedprof run` says and writes at the end: on stderr, after everything of the script's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speedprof.profiler import run_folder
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.fence import Fence

if TYPE_CHECKING:
    from speedprof.profiler.launcher import Ended
    from speedprof.reports.view import View

PAGE, MACHINE = "report.html", "report.json"
NEEDED = (  # what the end imports, in the order in which it is worth having
    "numpy",
    "msgspec",
    "rich.console",
    "rich.table",
    "speedprof.profiler.attribution",
    "speedprof.reports.view",
    "speedprof.mitigations.catalogue",
    "speedprof.reports.to_text",
    "speedprof.reports.to_json",
    "speedprof.reports.to_html",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
)


@dataclass(frozen=True)
class Manner:
    """How the end is told."""

    quiet: bool = False  # one line
    as_json: bool = False  # one line of JSON instead of text
    open_page: bool = False


def close(ended: Ended, manner: Manner) -> None:
    """Report on a run; whatever fails here is said in a sentence and fails nothing else."""
    said = _Said(manner)
    fence = Fence(
        lambda sentence: said.sentence(
            f"the report failed ({sentence}); please report this as a bug"
        )
    )
    fence.guard("report", _report)(ended, manner, said)
    told = said.view.run.notes if said.view is not None and not manner.as_json else []
    for note in ended.notes:
        if note not in told:
            said.sentence(note)
    said.finish(ended)


def _report(ended: Ended, manner: Manner, said: _Said) -> None:
    if ended.folder is None:
        return
    try:
        said.view = view = view_of(ended.folder)
    except SpeedprofError as error:
        said.sentence(str(error))
        return
    written = _written(ended, view)
    if view.run.steps == 0:
        from speedprof.profiler.unmeasured import sentence

        said.sentence(sentence(ended.folder, ended.command))
        return
    said.report(view, shown_path(ended.folder / PAGE) if written else None)
    if manner.open_page and written:
        open_page(ended.folder)


def _written(ended: Ended, view: View) -> bool:
    """Write the reports; note why where that cannot be."""
    if ended.folder is None:
        return False
    try:
        write_reports(ended.folder, view)
    except OSError as error:
        ended.note(run_folder.cannot_write(ended.folder, error))
        return False
    return True


def view_of(folder: Path) -> View:
    """Return what is to be shown of a run; raises SpeedprofError where there is none."""
    from speedprof.profiler.attribution import load
    from speedprof.reports.view import of

    return of(load(folder))


def write_reports(folder: Path, view: View) -> None:
    """Write the page and the report for machines into the run folder; raises OSError."""
    from speedprof.reports.to_html import render

    run_folder.write(folder / MACHINE, json_of(view))
    run_folder.write(folder / PAGE, render(view))


def json_of(view: View) -> str:
    """Return the report for machines."""
    from speedprof.reports.to_json import render

    return render(view)


def open_page(folder: Path) -> None:
    """Show the page in the browser, if there is one."""
    import webbrowser

    webbrowser.open((folder / PAGE).absolute().as_uri())


def text_of(view: View, *, stream: int, page: str | None) -> str:
    """Return the report as text, as wide as the descriptor's terminal, coloured if it is one."""
    from speedprof.reports.to_text import render

    return render(view, width=width(stream), color=colored(stream), report=page)


def width(stream: int) -> int:
    """Return the columns of a file descriptor's terminal, 80 where it is none."""
    try:
        return os.get_terminal_size(stream).columns
    except OSError:
        return shutil.get_terminal_size((80, 24)).columns


def colored(stream: int) -> bool:
    """Return whether to colour: a terminal that can, and no NO_COLOR (no-color.org)."""
    return (
        os.isatty(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def shown_path(path: Path) -> str:
    """Return a path as short as it can be from here."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:
        return str(path)


class _Said:
    """What goes to stderr, in the manner that was asked for."""

    def __init__(self, manner: Manner) -> None:
        self.view: View | None = None
        self._manner = manner
        self._sentences: list[str] = []

    def sentence(self, text: str) -> None:
        self._sentences.append(text)

    def report(self, view: View, page: str | None) -> None:
        if self._manner.as_json:
            return
        if self._manner.quiet:
            self._sentences.insert(0, f"{view.judgement.verdict.sentence} {page or ''}".rstrip())
            return
        _write("\n" + text_of(view, stream=2, page=page))

    def finish(self, ended: Ended) -> None:
        from speedprof.reports.escape import visible

        if self._manner.as_json:
            _write(self._json(ended) + "\n")
            return
        mark = click.style("speedprof:", bold=True) if colored(2) else "speedprof:"
        for sentence in self._sentences:
            _write(f"{mark} {visible(sentence)}\n")

    def _json(self, ended: Ended) -> str:
        report = None if self.view is None else json.loads(json_of(self.view))
        return json.dumps(
            {
                "folder": None if ended.folder is None else str(ended.folder),
                "exit_status": ended.exit_status,
                "notes": self._sentences,
                "report": report,
            }
        )


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more
        click.echo(text, nl=False, err=True)
