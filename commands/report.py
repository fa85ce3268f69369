"""`speedprof report`: show a run again, from its facts."""

from __future__ import annotations

from pathlib import Path

import click

from speedprof.commands import closing, options
from speedprof.profiler import run_folder
from speedprof.profiler.errors import SpeedprofError


@click.command("report")
@click.argument("run", required=False)
@options.runs_to_look_in()
@options.as_json("Print report.json instead of text.")
@options.open_page()
def command(*, run: str | None, out: str, as_json: bool, open_page: bool) -> None:
    """Show RUN (a folder or a name; the newest by default) and rewrite its report."""
    folder = run_folder.find(run, Path(out))
    view = closing.view_of(folder)
    page: str | None = closing.shown_path(folder / closing.PAGE)
    try:
        closing.write_reports(folder, view)
    except OSError as error:
        if open_page:
            raise SpeedprofError(
                f"cannot write the report into {folder} ({error.strerror}); copy the run elsewhere"
            ) from error
        page = None  # a read-only archive is read all the same
    if as_json:
        click.echo(closing.json_of(view), nl=False)
    else:
        click.echo(closing.text_of(view, stream=1, page=page), nl=False)
    if open_page:
        closing.open_page(folder)
