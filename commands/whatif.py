"""`speedprof whatif`: measure what a script would gain if one of its costs were gone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from speedprof.commands import closing, options
from speedprof.commands.run import UpToTheScript, target
from speedprof.commands.status_line import StatusLine
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.fence import Fence
from speedprof.profiler.run_folder import cannot_write
from speedprof.profiler.run_whatif import FILE

if TYPE_CHECKING:
    from speedprof.profiler.run_whatif import WhatIf
    from speedprof.profiler.whatif import Outcome

INTERRUPTED, NOTHING = 130, 1  # exit statuses; 130 as shells count SIGINT
LIMIT_S = 900


@click.command(
    "whatif",
    cls=UpToTheScript,
    epilog=options.TRIALS_EPILOG,
)
@options.out("Folder for the trials' folder.")
@options.name("trials")
@click.option(
    "--steps",
    type=click.IntRange(min=8),
    metavar="N",
    help="Steps per trial after warm-up; by default 40, for 5 to 20 s.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="How often to make every trial.",
)
@click.option(
    "--limit",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    default=LIMIT_S,
    show_default=True,
    help="End a trial that takes longer, start-up and all.",
)
@options.python()
@options.quiet("Say the ceilings alone.")
@options.as_json()
@click.pass_context
@options.examples(
    "speedprof whatif train.py --epochs 3",
    "speedprof whatif -- torchrun --nproc-per-node 2 train.py",
)
def command(
    ctx: click.Context,
    *,
    out: str,
    name: str | None,
    steps: int | None,
    rounds: int,
    limit: float,
    python: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure ceilings: the script in short trials, each with one cost taken away."""
    from speedprof.profiler import whatif

    order = whatif.Order(
        target=target(ctx, python),
        parent=Path(out),
        name=name,
        steps=steps,
        rounds=rounds,
        limit_s=limit,
    )
    line = StatusLine(shown=not (quiet or as_json))
    try:
        outcome, found = whatif.measure(order, line.tell)
    except OSError as error:
        why = error.strerror or str(error)
        raise SpeedprofError(
            f"the trials cannot be recorded: cannot write to {out} ({why}); "
            "name another folder with --out DIR"
        ) from error
    finally:
        line.clear()
    fence = Fence(
        lambda sentence: click.echo(
            f"speedprof: the report failed ({sentence}); please report this as a bug", err=True
        )
    )
    page = fence.guard("report", _report)(outcome)
    if as_json:
        click.echo((outcome.folder / FILE).read_text("utf-8"), nl=False)
    else:
        _print(outcome, found, page=page, quiet=quiet)
    ctx.exit(_status(found))


def _status(found: WhatIf) -> int:
    if not found.finished:
        return INTERRUPTED
    return 0 if found.ceilings or found.loader else NOTHING


def _report(outcome: Outcome) -> Path | None:
    """Write the report of the first real trial; None where it has none, or cannot be written."""
    if outcome.first is None:
        return None
    try:
        closing.write_reports(outcome.first, closing.view_of(outcome.first))
    except SpeedprofError:
        return None
    except OSError as error:
        click.echo(f"speedprof: {cannot_write(outcome.first, error)}", err=True)
        return None
    return outcome.first / closing.PAGE


def _print(outcome: Outcome, found: WhatIf, *, page: Path | None, quiet: bool) -> None:
    from speedprof.reports.escape import visible
    from speedprof.reports.sections_whatif import absent, sentences

    said = sentences(found)
    if not quiet:
        notes = [note for trial in found.trials for note in trial.notes]
        broken = [f"{trial.folder}: {trial.problem}" for trial in found.trials if trial.problem]
        said += [*absent(found), *found.notes, *dict.fromkeys(notes), *_new(broken, found)]
        if not found.finished:
            said.append("interrupted before the last trial; this is what was known by then")
    for sentence in said:
        click.echo(visible(sentence[0].upper() + sentence[1:]))
    if quiet:
        return
    count = "1 trial" if len(found.trials) == 1 else f"{len(found.trials)} trials"
    wall = sum(trial.wall_s for trial in found.trials)
    click.echo(f"{count} in {wall:.0f} s, in {closing.shown_path(outcome.folder)}")
    if page is not None:
        click.echo(f"Report: {closing.shown_path(page)}")


def _new(broken: list[str], found: WhatIf) -> list[str]:
    """Leave out problems that are told as the reason of a missing trial already."""
    told = {one.why for one in found.missing}
    return [sentence for sentence in broken if sentence.partition(": ")[2] not in told]
