"""`speedprof tune`: try remedies on a script, keep those that are faster and prove themselves."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speedprof.commands import closing, options
from speedprof.commands.run import UpToTheScript, target
from speedprof.commands.status_line import StatusLine
from speedprof.profiler import machine_name
from speedprof.profiler.errors import SpeedprofError

if TYPE_CHECKING:
    from speedprof.mitigations.tuning.tuned import Tried, Tuned
    from speedprof.profiler.run import Run

DIFF = "plan.diff"
INTERRUPTED = 130  # as shells count SIGINT


@click.command(
    "tune",
    cls=UpToTheScript,
    epilog=options.TRIALS_EPILOG,
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    default=10.0,
    show_default=True,
    help="Time for all trials together.",
)
@click.option(
    "--target-safety",
    "safety",
    type=click.Choice(["exact", "reseeded", "rounding"]),
    default="rounding",
    show_default=True,
    help="Try nothing less safe than this.",
)
@click.option(
    "--allow", multiple=True, metavar="NAME", help="Try this remedy, too, whatever its safety."
)
@click.option(
    "--plan",
    metavar="PLAN",
    help="Try the remedies of this plan first: a TOML file, or names as in loader-workers=4,tf32.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=12),
    metavar="N",
    default=40,
    show_default=True,
    help="Steps per trial after warm-up, for 4 to 15 s, less in a short budget.",
)
@options.out("Folder for the folder of trials.")
@options.name("tuning")
@options.python()
@options.quiet("Say the plan alone.")
@options.as_json()
@click.pass_context
@options.examples(
    "speedprof tune train.py --epochs 3",
    "speedprof tune --budget 5 -- torchrun --nproc-per-node 2 train.py",
)
def command(
    ctx: click.Context,
    *,
    budget: float,
    safety: str,
    allow: tuple[str, ...],
    plan: str | None,
    steps: int,
    out: str,
    name: str | None,
    python: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find a plan that makes a script faster, by short trials of the script itself."""
    from speedprof.mitigations.plan_files import known, understand
    from speedprof.mitigations.tuning.outcome import save
    from speedprof.mitigations.tuning.trial import Length
    from speedprof.mitigations.tuning.tuned import Order
    from speedprof.mitigations.tuning.tuner import Tuner
    from speedprof.profiler.run_folder import cannot_write

    for one in allow:
        known(one)
    order = Order(
        target=target(ctx, python),
        parent=Path(out),
        name=name,
        budget_s=60 * budget,
        safety=safety,
        allow=allow,
        wanted=understand(plan, "--plan").remedies if plan is not None else (),
        length=Length(steps=steps),
    )
    line = StatusLine(shown=not (quiet or as_json))
    try:
        tuned = Tuner(order, line.tell).run()
        before = _loaded(tuned.before)
        kept = save(
            tuned, machine=_machine(before), torch=before.environment.torch if before else None
        )
    except OSError as error:
        raise SpeedprofError(cannot_write(Path(out), error)) from error
    finally:
        line.clear()
    page = _report(tuned)
    written = _written(tuned, kept, before) if kept is not None and before is not None else None
    if as_json:
        click.echo((tuned.folder / "tune.json").read_text("utf-8"), nl=False)
    else:
        _print(tuned, shlex.join(ctx.meta["speedprof.rest"]), kept, quiet=quiet)
        if written is not None and not quiet:
            click.echo(written)
        if page is not None:
            click.echo(f"Report: {closing.shown_path(page)}")
    ctx.exit(INTERRUPTED if tuned.ended == "interrupted" else 0)


def _report(tuned: Tuned) -> Path | None:
    """Write the report of the run under the plan; None where there is none, or no room for it."""
    if tuned.after is None:
        return None
    try:
        closing.write_reports(tuned.after, closing.view_of(tuned.after))
    except (SpeedprofError, OSError) as error:
        click.echo(f"speedprof: the report could not be written ({error})", err=True)
        return None
    return tuned.after / closing.PAGE


def _written(tuned: Tuned, plan: Path, before: Run) -> str:
    """Write the plan as a diff of the script beside it; say where, and what it leaves out."""
    from speedprof.commands import apply
    from speedprof.mitigations.rewrite import proposal, targets
    from speedprof.mitigations.rewrite.order import REFUSED
    from speedprof.reports.escape import visible

    try:
        found = targets.targets(before)
        made = proposal.propose(found, proposal.orders(before, tuned.plan), calls=True)
        left = [f"{one.name} ({one.why})" for one in made.outcomes if one.state == REFUSED]
        if not made.changes:
            return f"No diff: {visible('; '.join(left))}"
        path = tuned.folder / DIFF
        path.write_bytes(b"".join(apply.patch(change) for change in made.changes))
    except (SpeedprofError, OSError) as error:
        return f"No diff: {visible(str(error))}"
    without = f", without {visible('; '.join(left))}" if left else ""
    words = [closing.shown_path(plan), closing.shown_path(Path(before.folder))]
    return (
        f"Diff: {closing.shown_path(path)}{without}\n"
        f"  speedprof apply --plan {shlex.join(words)} --write"
    )


def _loaded(folder: Path | None) -> Run | None:
    from speedprof.profiler.attribution import load

    return None if folder is None else load(folder)


def _machine(run: Run | None) -> str | None:
    if run is None or not run.machines:
        return None
    node = run.machines[0]
    return machine_name.named(node.cpu, node.cores, node.gpus)


def _print(tuned: Tuned, script: str, plan: Path | None, *, quiet: bool) -> None:
    from speedprof.mitigations.tuning.tuned import LATE

    late = [one for one in tuned.tried if one.why == LATE]
    told = [one for one in tuned.tried if one.why != LATE]
    if not quiet and told:
        click.echo(_table(told), nl=False)
        click.echo()
    if not quiet and late:
        click.echo(f"Not tried for lack of time: {', '.join(_names(late))}.")
    click.echo(_verdict(tuned))
    if plan is not None:
        click.echo(f"Plan: {closing.shown_path(plan)}")
        click.echo(f"  speedprof run --apply {shlex.quote(closing.shown_path(plan))} {script}")
    if not quiet and tuned.before is not None and tuned.after != tuned.before:
        before, after = (closing.shown_path(one) for one in (tuned.before, tuned.after) if one)
        click.echo(f"Before and after: speedprof compare {before} {after}")


def _names(tried: list[Tried]) -> list[str]:
    return list(dict.fromkeys(one.remedy.name for one in tried))


def _verdict(tuned: Tuned) -> str:
    from speedprof.mitigations.tuning.candidates import named
    from speedprof.mitigations.tuning.tuned import NO_TIME

    if not tuned.plan:
        count = sum(bool(one.trials) for one in tuned.tried)
        if not count and tuned.ended == NO_TIME:
            return (
                "No remedy was tried: measuring the script as it is took the time; "
                "give it several times as much (--budget MINUTES)."
            )
        many = "one remedy was" if count == 1 else f"{count or 'no'} remedies were"
        return f"No remedy was kept: {many} tried, and then {tuned.ended}."
    names = ", ".join(map(named, tuned.plan))
    if tuned.total is None:
        return f"Kept: {names} ({tuned.ended}; the whole plan was not measured)."
    return f"{tuned.total} as fast with {names} ({tuned.ended})."


def _table(tried: list[Tried]) -> str:
    import io

    from rich.console import Console
    from rich.table import Table

    from speedprof.mitigations.tuning.candidates import named
    from speedprof.reports.escape import visible

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("remedy", "predicted", "measured", "", "why"):
        table.add_column(column, overflow="fold")
    for one in tried:
        gain = one.predicted
        table.add_row(
            named(one.remedy),
            f"{gain.low:.2f}-{gain.high:.2f}x" if gain is not None else "-",
            str(one.measured) if one.measured is not None else "-",
            "kept" if one.kept else "not kept",
            visible(one.why),
        )
    text = io.StringIO()
    Console(file=text, width=max(closing.width(1), 80), highlight=False, markup=False).print(table)
    return text.getvalue()
