"""Options that several commands have, each in the same words wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from speedprof.profiler.run_folder import DEFAULT_PARENT

if TYPE_CHECKING:
    from click.decorators import FC

TRIALS_EPILOG = (
    "The script's files are kept as they are: what a trial writes goes to a folder of its own, "
    "and is deleted. Options after SCRIPT, MODULE or COMMAND are its own."
)


def out(meaning: str) -> Callable[[FC], FC]:
    """Return `--out DIR`, a folder that holds run folders."""
    return click.option(
        "--out", metavar="DIR", default=DEFAULT_PARENT, show_default=True, help=meaning
    )


def runs_to_look_in() -> Callable[[FC], FC]:
    """Return `--out DIR` of a command that shows a run which there is."""
    return out("Folder of run folders to look in.")


def name(of: str) -> Callable[[FC], FC]:
    """Return `--name NAME`; `of` is what it names."""
    return click.option(
        "--name", metavar="NAME", help=f"Name of the {of}; by default the script's."
    )


def python(interpreter: str = "Interpreter for the script") -> Callable[[FC], FC]:
    """Return `--python PATH`."""
    return click.option(
        "--python", metavar="PATH", help=f"{interpreter}; by default the active environment's."
    )


def quiet(says: str) -> Callable[[FC], FC]:
    """Return `--quiet`; `says` is what is said none the less."""
    return click.option("--quiet", is_flag=True, help=says)


def as_json(meaning: str = "Print JSON instead of text.") -> Callable[[FC], FC]:
    """Return `--json`, of which the command's parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=meaning)


def open_page() -> Callable[[FC], FC]:
    """Return `--open`, of which the command's parameter is `open_page`."""
    return click.option(
        "--open", "open_page", is_flag=True, help="Open the report in the browser."
    )


def examples(*lines: str) -> Callable[[FC], FC]:
    """Show command lines in the help, each in a line of its own; nearest to the function."""

    def decorate(function: FC) -> FC:
        kept = "\b"  # click's sign for a paragraph whose lines stay
        function.__doc__ = "\n".join([function.__doc__ or "", "", kept, *lines])
        return function

    return decorate
