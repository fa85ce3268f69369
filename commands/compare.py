"""`speedprof compare`: is the second run slower than the first? For people, and for CI."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speedprof.commands import options
from speedprof.commands.closing import colored, width
from speedprof.profiler import run_folder
from speedprof.profiler.run import PHASES
from speedprof.reports.wording import DASH, PHASE_NAMES, unseen_phases

if TYPE_CHECKING:
    from speedprof.profiler.comparison import Comparison
    from speedprof.profiler.run import Run

WIDEST = 100
SLOWER = 1  # exit status


class _Percent(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A share written as a percentage, with or without the sign: 5% or 5."""

    name = "percentage"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            percent = float(str(value).strip().removesuffix("%"))
        except ValueError:
            self.fail(f"{value!r} is no percentage; write 5%", param, ctx)
        if not 0 <= percent < 1e6:
            self.fail(f"{value!r} is not 0% or more", param, ctx)
        return percent / 100


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option(
    "--fail-if-slower",
    type=_Percent(),
    metavar="5%",
    help="Exit with 1 if B's steps take longer than A's by more than this, the whole 95 % "
    "interval beyond it.",
)
@options.as_json()
@options.runs_to_look_in()
@click.pass_context
def command(
    ctx: click.Context, *, a: str, b: str, fail_if_slower: float | None, as_json: bool, out: str
) -> None:
    """Compare the step times of runs A (before) and B (after), and their phases."""
    from speedprof.profiler.attribution import load
    from speedprof.profiler.comparison import compare

    folders = [run_folder.find(named, Path(out)) for named in (a, b)]
    result = compare(folders[0], folders[1])
    old, new = load(folders[0]), load(folders[1])
    slower = fail_if_slower is not None and result.slower_by_more_than(fail_if_slower)
    if as_json:
        click.echo(_json(result, old, new, slower=slower if fail_if_slower is not None else None))
    else:
        _print(result, old, new)
        if slower:
            click.echo(f"That is more than the {(fail_if_slower or 0) * 100:g} % allowed.")
    ctx.exit(SLOWER if slower else 0)


def sentence(result: Comparison) -> str:
    """Say what the interval allows to say."""
    interval = f"{result.low:.3f} to {result.high:.3f}, 95 % interval within the runs"
    stand = f"B's step takes {result.ratio:.3f} times as long as A's ({interval})"
    if result.low > 1:
        return f"{stand}: B is slower by {result.ratio - 1:.1%}."
    if result.high < 1:
        return f"{stand}: B is faster by {1 - result.ratio:.1%}."
    return f"{stand}: no difference can be told."


def _print(result: Comparison, old: Run, new: Run) -> None:
    from rich.console import Console
    from rich.table import Table

    from speedprof.reports.escape import visible

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms a step")
    for column in (f"A: {visible(old.name)}", f"B: {visible(new.name)}", "B - A"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_row(
        "mean step",
        f"{result.old_ms:,.4g}",
        f"{result.new_ms:,.4g}",
        _signed(result.new_ms - result.old_ms),
        style="bold",
    )
    for phase in PHASES:
        before, after = _phase_ms(old, phase), _phase_ms(new, phase)
        change = DASH if before is None or after is None else _signed(after - before)
        table.add_row(PHASE_NAMES[phase], _number(before), _number(after), change)
    table.add_row("steps compared", f"{result.old_steps:,}", f"{result.new_steps:,}", "")
    console = Console(
        width=min(width(1), WIDEST),
        color_system="auto" if colored(1) else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(table)
    console.print()
    console.print(sentence(result))


def _phase_ms(run: Run, phase: str) -> float | None:
    """Return a phase's time per step, None where it was not measured."""
    if run.phases is None or phase in unseen_phases(run):
        return None
    return run.phases[phase].ms


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:,.4g}"


def _signed(value: float) -> str:
    return f"{value:+,.3g}"


def _json(result: Comparison, old: Run, new: Run, *, slower: bool | None) -> str:
    """Return the comparison for machines; `slower` is null where no threshold was asked for."""
    phases = {
        phase: {"a_ms": _phase_ms(old, phase), "b_ms": _phase_ms(new, phase)} for phase in PHASES
    }
    return json.dumps(
        {
            "format": 1,
            "a": old.folder,
            "b": new.folder,
            **asdict(result),
            "phases": phases,
            "slower_than_allowed": slower,
        },
        indent=1,
    )
