"""`speedprof roofs`: what this machine can do at best, measured once and kept."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speedprof.commands import options
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.roofs.order import PARTS

if TYPE_CHECKING:
    from speedprof.profiler.roofs.machine import Machine
    from speedprof.profiler.roofs.roofs import Roofs

BESIDE_OTHERS = "all-reduce"  # what every rank of a launcher measures; the rest one on each node


@click.command(
    "roofs",
    epilog="NAME is one of: " + "; ".join(f"{name} ({what})" for name, what in PARTS.items()),
)
@options.python("Interpreter that trains, whose torch is measured")
@click.option(
    "--storage",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder on the storage to measure; by default this one. Needs 64 to 300 MB for a moment.",
)
@click.option(
    "--only",
    metavar="NAME",
    multiple=True,
    type=click.Choice(list(PARTS)),
    help="Measure only this, anew; may be given several times. What is known besides is kept.",
)
@click.option("--again", is_flag=True, help="Measure anew what is already known.")
@options.as_json("Print JSON instead of a table.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the picture, as .html (with the table) or .svg.",
)
def command(
    *,
    python: str | None,
    storage: Path | None,
    only: tuple[str, ...],
    again: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Measure in under a minute what this machine can do at best, or show what is known of it.

    It is kept for this machine, and `speedprof run` puts every run beside it.
    """
    from speedprof.profiler.roofs.machine import this_machine

    _check(storage, out)
    machine = this_machine()
    place = storage or Path()
    known = _known(machine)
    parts = _parts(known, only, again=again, storage=storage)
    if not parts and not _is_first_here():
        return
    roofs = known
    if parts or roofs is None:
        roofs = _measured(machine, parts, known, python=python, storage=place)
    if _is_first_here():
        _show(roofs, as_json=as_json, out=out)


def _check(storage: Path | None, out: Path | None) -> None:
    """Refuse what cannot work before anything is measured."""
    if storage is not None and not storage.is_dir():
        raise SpeedprofError(
            f"--storage {storage} is no folder; name one on the storage to measure"
        )
    if out is not None and out.suffix not in (".html", ".svg"):
        raise SpeedprofError(f"--out {out} is neither .html nor .svg; name a file that is")
    if out is not None and not out.absolute().parent.is_dir():
        raise SpeedprofError(f"--out {out}: there is no folder {out.parent}; make it first")


def _known(machine: Machine) -> Roofs | None:
    """Return what was measured before; a file that is not to be trusted is said."""
    from speedprof.profiler.roofs import cache

    known, why = cache.read(machine.id)
    if why is not None:
        _say(f"{why}; measuring anew")
    return known


def _parts(
    known: Roofs | None, only: tuple[str, ...], *, again: bool, storage: Path | None
) -> tuple[str, ...]:
    """Return what is to be measured: all that was asked for and is not known."""
    from speedprof.profiler.roofs.exchange import is_one_of_many
    from speedprof.profiler.roofs.machine import mount_of

    many = is_one_of_many()
    if only or again or known is None:
        wanted = [part for part in PARTS if part in (only or PARTS)]
    else:
        wanted = [part for part in PARTS if part not in known.measured_at]
        if many:
            wanted.append(BESIDE_OTHERS)  # the other ranks may not know as much
        mounts = {one.mount for one in known.storage}
        if storage is not None and mount_of(str(storage)) not in mounts:
            wanted.append("storage")
    if not _is_first_here():
        wanted = [part for part in wanted if part == BESIDE_OTHERS]
    return tuple(part for part in PARTS if part in wanted)


def _is_first_here() -> bool:
    """Return whether this is the one process of a launcher's that speaks for its node."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _measured(
    machine: Machine,
    parts: tuple[str, ...],
    known: Roofs | None,
    *,
    python: str | None,
    storage: Path,
) -> Roofs:
    """Measure and keep it; where it cannot be kept, that is said and nothing else is lost."""
    from speedprof.profiler import interpreter
    from speedprof.profiler.roofs import cache, process

    wish = process.Wish(
        python=interpreter.choose(python),
        machine=machine,
        parts=parts,
        storage=storage,
        known=known,
    )
    with _ended_tidily(), _bar(parts) as told:
        roofs = process.measure(wish, told)
    if known is not None and known.torch != roofs.torch:
        _say(f"what was measured with torch {known.torch} is no longer kept")
    if _is_first_here():
        try:
            cache.write(roofs)
        except OSError as error:
            _say(
                f"the roofs could not be kept ({error.strerror}: {error.filename or ''}); "
                "set XDG_CACHE_HOME to a folder that can be written"
            )
    return roofs


@contextlib.contextmanager
def _ended_tidily() -> Iterator[None]:
    """Have `kill` and a closed terminal end the measurement as Ctrl-C does: tidied up."""
    asked = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _bar(parts: tuple[str, ...]) -> Iterator[Callable[[str], None]]:
    """Show what is being measured, where somebody can see it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=len(parts) + 1)

        def told(part: str) -> None:
            progress.update(task, advance=1, description=PARTS[part])

        yield told


def _show(roofs: Roofs, *, as_json: bool, out: Path | None) -> None:
    from speedprof.commands.closing import colored, width
    from speedprof.profiler.roofs import cache
    from speedprof.reports import roofs_text

    if as_json:
        click.echo(cache.encoded(roofs), nl=False)
    else:
        text = roofs_text.render(roofs, width=width(1), color=colored(1))
        click.echo(text, nl=False, color=colored(1))
    if out is not None:
        _draw(roofs, out)


def _draw(roofs: Roofs, out: Path) -> None:
    from speedprof.reports import roofs_page

    render = roofs_page.svg if out.suffix == ".svg" else roofs_page.html
    try:
        out.write_text(render(roofs), "utf-8")
    except OSError as error:
        raise SpeedprofError(
            f"cannot write {out} ({error.strerror}); name another file with --out FILE"
        ) from error


def _say(sentence: str) -> None:
    from speedprof.reports.escape import visible

    click.echo(f"speedprof: {visible(sentence)}", err=True)
