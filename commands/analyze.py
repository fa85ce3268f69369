"""`speedprof analyze`: what recorded traces mean, as a run like any other."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from speedprof import __version__
from speedprof.commands import closing, options
from speedprof.profiler import run_folder
from speedprof.profiler.errors import SpeedprofError

FEWEST_FOR_A_BAR = 2  # files; one is read in a moment


@click.command("analyze")
@click.argument(
    "traces", nargs=-1, required=True, metavar="TRACE...", type=click.Path(path_type=Path)
)
@options.out("Folder in which the run's folder is made.")
@click.option("--name", metavar="NAME", help="Name of the run; the first trace's by default.")
@click.option(
    "--perfetto",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the trace with our phases as rows, for ui.perfetto.dev.",
)
@options.as_json("Print report.json instead of text.")
@options.open_page()
def command(
    *,
    traces: tuple[Path, ...],
    out: str,
    name: str | None,
    perfetto: Path | None,
    as_json: bool,
    open_page: bool,
) -> None:
    """Attribute every step of recorded TRACEs (files, or a folder with one of each rank).

    A trace is what torch.profiler exports: .json or .json.gz, of any PyTorch since 1.8, CUDA, ROCm
    or CPU.
    """
    from speedprof.profiler import trace_export, trace_run, trace_set

    sources = trace_run.sources(traces)
    if perfetto is not None and len(sources) > 1:
        raise SpeedprofError(
            f"--perfetto writes one trace and these are {len(sources)}; name the one to look at"
        )
    named = name or traces[0].resolve().name.split(".")[0]
    folder = _new_folder(Path(out), named)
    try:
        with _bar(len(sources)) as progress:
            trace_set.analyze(sources, folder, name=named, version=__version__, progress=progress)
        if perfetto is not None:
            trace_export.export(sources[0].path, perfetto)
        view = closing.view_of(folder)
        closing.write_reports(folder, view)
    except SpeedprofError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except OSError as error:
        raise SpeedprofError(run_folder.cannot_write(folder, error)) from error
    if as_json:
        click.echo(closing.json_of(view), nl=False)
    else:
        page = closing.shown_path(folder / closing.PAGE)
        click.echo(closing.text_of(view, stream=1, page=page), nl=False)
    if open_page:
        closing.open_page(folder)


def _new_folder(parent: Path, name: str) -> Path:
    try:
        return run_folder.create(parent, name)
    except OSError as error:
        raise SpeedprofError(
            f"cannot make a folder in {parent} ({error.strerror}); name another with --out DIR"
        ) from error


@contextlib.contextmanager
def _bar(files: int) -> Iterator[Callable[[int], None]]:
    """Show how many files are done, where somebody can see it."""
    if files < FEWEST_FOR_A_BAR or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading traces", total=files)
        yield lambda done: progress.update(task, completed=done)
