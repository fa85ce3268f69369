"""The command line: one file per sub-command, loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click

from speedprof import __version__
from speedprof.profiler.errors import SpeedprofError

__all__ = ["main"]

COMMANDS = {  # name -> what it does, so that `speedprof --help` loads none of them
    "run": "Measure a training script, or any command that starts one.",
    "analyze": "Say what recorded torch.profiler traces mean.",
    "roofs": "Measure what this machine can do at best.",
    "whatif": "Measure what a script would gain if one of its costs were gone.",
    "tune": "Try remedies in short trials, and keep those that prove themselves.",
    "apply": "Write remedies into the script, as a diff or for good.",
    "report": "Show a run again, and rewrite its report.",
    "list": "List the runs in a folder.",
    "compare": "Say whether one run's steps are slower than another's.",
    "explain": "Explain a remedy, or list them all.",
}


class _Lazy(click.Group):
    """A group whose commands live in `speedprof.commands.<name>`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"speedprof.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(_no_command(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _no_command(word: str) -> str:
    """Say what was meant by a word in a command's place: a command, or a script."""
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    meant = near[0] if near and "." not in word else f"run {word}"
    return f"no command {word!r}; did you mean `speedprof {meant}`?"


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: speedprof run train.py",
)
@click.version_option(__version__, prog_name="speedprof")
def _group() -> None:
    """Find out where a PyTorch training step's time goes, and what to change."""


def main() -> NoReturn:
    """Run the command line; an error that the user can mend is one sentence and exit status 2."""
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        _group(prog_name="speedprof")
    except SpeedprofError as error:
        from speedprof.reports.escape import visible

        click.secho("speedprof: ", fg="red", bold=True, nl=False, err=True)
        click.echo(visible(str(error)), err=True)
    sys.exit(2)
