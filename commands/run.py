"""`speedprof run`: measure a script or a command, then end as it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from speedprof.commands import closing, options
from speedprof.profiler import interpreter, launcher

WARMUP = 10  # steps: allocator, autotuning and the loader's first batches settle within them


class UpToTheScript(click.Command):
    """Its options end where the script, `-m` or `--` begins; what follows is the script's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        place = self._end_of_options(args)
        ctx.meta["speedprof.rest"] = args[place:]
        return super().parse_args(ctx, args[:place])

    def _end_of_options(self, args: list[str]) -> int:
        valued = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        place = 0
        while place < len(args):
            argument = args[place]
            if argument in ("-", "--", "-m") or not argument.startswith("-"):
                return place
            place += 2 if argument in valued else 1
        return len(args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-") and not ctx.meta["speedprof.rest"]:
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(incomplete, type="file")]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return ["[OPTIONS]", "(SCRIPT | -m MODULE | -- COMMAND)", "[ARGS]..."]


@click.command(
    "run",
    cls=UpToTheScript,
    epilog="Options after SCRIPT, MODULE or COMMAND are its own. The exit status is the script's. "
    "The report comes last on stderr, and as report.html and report.json in the run's folder.",
)
@options.out("Folder for run folders.")
@options.name("run")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure N steps after the warm-up, then let go: training goes on at full speed.",
)
@click.option(
    "--stop-after",
    type=click.IntRange(min=1),
    metavar="N",
    help="End the script at a step boundary, N steps after the warm-up.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    default=WARMUP,
    show_default=True,
    help="Steps to leave out of the figures at the beginning.",
)
@click.option(
    "--no-windows", is_flag=True, help="Never use torch.profiler: no exact phases, least overhead."
)
@options.python()
@click.option(
    "--apply",
    "plan",
    metavar="PLAN",
    help="Apply remedies: a plan's TOML file, or names as in loader-workers=4,tf32.",
)
@options.quiet("Say one line at the end, and nothing before.")
@options.as_json(
    "End with one line of JSON on stderr (folder, exit_status, notes, report), not text."
)
@options.open_page()
@click.pass_context
@options.examples(
    "speedprof run train.py --epochs 3",
    "speedprof run -m package.train --epochs 3",
    "speedprof run -- torchrun --nproc-per-node 2 train.py",
)
def command(
    ctx: click.Context,
    *,
    out: str,
    name: str | None,
    steps: int | None,
    stop_after: int | None,
    warmup: int,
    no_windows: bool,
    python: str | None,
    plan: str | None,
    quiet: bool,
    as_json: bool,
    open_page: bool,
) -> None:
    """Measure a training script, or any command that starts one."""
    wanted = _wanted(plan, silent=quiet or as_json)
    order = launcher.Order(
        target=target(ctx, python),
        parent=Path(out),
        name=name,
        steps=steps,
        stop_after=stop_after,
        warmup=warmup,
        windows=not no_windows,
        **wanted,
        live=not quiet,
        preload=closing.NEEDED,
    )
    ended = launcher.run(order)
    closing.close(ended, closing.Manner(quiet=quiet, as_json=as_json, open_page=open_page))
    ended.leave()


def _wanted(plan: str | None, *, silent: bool) -> dict[str, Any]:
    """Return the part of an order that a plan makes; say first if it was proved elsewhere."""
    if plan is None:
        return {}
    from speedprof.mitigations import plan_files
    from speedprof.mitigations.applied import MODULE
    from speedprof.profiler import machine_name
    from speedprof.reports.escape import visible

    wanted = plan_files.understand(plan)
    proved = wanted.proved()
    said = machine_name.doubt(proved, here=machine_name.here(), torch=None) if proved else None
    if said is not None and not silent:
        click.echo(f"speedprof: {visible(said)}", err=True)
    return {"remedies": tuple(wanted.entries()), "applied_by": MODULE, "proved": proved}


def target(ctx: click.Context, python: str | None) -> interpreter.Target:
    rest: list[str] = ctx.meta["speedprof.rest"]
    if not rest:
        raise click.UsageError("name a script, as in `speedprof run train.py`", ctx)
    if rest[0] == "--":
        return interpreter.command(rest[1:])
    if rest[0] == "-m":
        return interpreter.module(rest[1:], python)
    return interpreter.script(rest, python)
