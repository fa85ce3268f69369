"""`speedprof apply`: remedies written into the script, as a diff or for good."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speedprof.commands import closing, options
from speedprof.profiler import run_folder
from speedprof.profiler.errors import SpeedprofError

if TYPE_CHECKING:
    from speedprof.mitigations.plan_files import Remedy
    from speedprof.mitigations.rewrite.order import Outcome
    from speedprof.mitigations.rewrite.proposal import Change, Proposal
    from speedprof.profiler.run import Run
    from speedprof.reports.view import View

COLORS = {"written": "green", "unchanged": "cyan", "refused": "red", "decision": "yellow"}
STATES = {
    "written": "written",
    "unchanged": "nothing to change",
    "refused": "refused",
    "decision": "needs a decision",
}
DIFF_COLORS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(
    "apply",
    epilog="The diff goes to stdout, what came of each remedy to stderr: "
    "`speedprof apply > faster.patch` keeps the diff for `git apply` or `patch -p1`.",
)
@click.argument("run", required=False)
@click.option(
    "--remedy",
    "remedies",
    multiple=True,
    metavar="NAME",
    help="Write this remedy, as in pin-memory or loader-workers=4; by default the run's plan.",
)
@click.option("--plan", "plan", metavar="FILE", help="Write the remedies of a plan, a TOML file.")
@click.option("--write", "for_good", is_flag=True, help="Change the files; a backup stays beside.")
@options.runs_to_look_in()
def command(
    *, run: str | None, remedies: tuple[str, ...], plan: str | None, for_good: bool, out: str
) -> None:
    """Write remedies into the script of RUN (a folder or a name; the newest by default).

    Without --write nothing is changed: the changes are shown as a unified diff.
    """
    if remedies and plan:
        raise click.UsageError("name remedies or a plan, not both")
    asked = _asked(remedies, plan)
    view = closing.view_of(run_folder.find(run, Path(out)))
    proposal, note = _proposal(view, asked, calls=plan is not None)
    for said in (note, _doubt(plan, view.run)):
        if said is not None:
            _tell(said)
    backups = _write(proposal.changes) if for_good else []
    for change in proposal.changes:
        _show(change)
    for outcome in proposal.outcomes:
        _tell_of(outcome)
    _tell_end(proposal, backups, for_good=for_good)


def _asked(names: Sequence[str], plan: str | None) -> list[Remedy] | None:
    """Return the remedies that the user names, None where those of the run are meant."""
    from speedprof.mitigations import plan_files
    from speedprof.mitigations.applied.automatic import AUTOMATIC
    from speedprof.mitigations.rewrite.rewriting import REWRITINGS

    if plan is not None:
        return list(plan_files.read(Path(plan)).remedies)
    words = [word.strip() for name in names for word in name.split(",") if word.strip()]
    if not words:
        return None
    only_written = [word for word in words if word in REWRITINGS and word not in AUTOMATIC]
    others = ",".join(word for word in words if word not in only_written)
    found = list(plan_files.understand(others).remedies) if others else []
    found += [plan_files.Remedy(name=name, parameters={}) for name in dict.fromkeys(only_written)]
    return found


def _doubt(plan: str | None, run: Run) -> str | None:
    """Say where a plan was proved, if that was not where the run was made."""
    from speedprof.mitigations import plan_files
    from speedprof.profiler import machine_name

    if plan is None or not run.machines:
        return None
    node = run.machines[0]
    return machine_name.doubt(
        plan_files.read(Path(plan)).proved(),
        here=machine_name.named(node.cpu, node.cores, node.gpus),
        torch=run.environment.torch,
        where="the machine of this run",
    )


def _proposal(
    view: View, asked: list[Remedy] | None, *, calls: bool
) -> tuple[Proposal, str | None]:
    from speedprof.mitigations.rewrite import proposal, targets

    waiting: list[Outcome] = []
    if asked is None:
        asked, waiting = proposal.sorted_out(view.run, view.advice)
        if not asked and not waiting:
            raise SpeedprofError(
                "there is nothing to write: this run has no advice; --remedy NAME writes a remedy "
                "all the same"
            )
    found = targets.targets(view.run)
    orders = proposal.orders(view.run, asked, view.advice)
    made = proposal.propose(found, orders, calls=calls)
    outcomes = [
        replace(one, asked=order.text()) for one, order in zip(made.outcomes, orders, strict=True)
    ]
    whole = proposal.Proposal(changes=made.changes, outcomes=(*outcomes, *waiting))
    return whole, found.note


def _write(changes: Sequence[Change]) -> list[Path]:
    """Write all files, none where one of them is not to be written; return the backups."""
    from speedprof.mitigations.rewrite import sources

    for change in changes:
        sources.refuse_read_only(change.source.path)
    return [sources.write(change.source, change.text) for change in changes]


def _show(change: Change) -> None:
    from speedprof.reports.escape import visible

    if not os.isatty(1):
        click.echo(patch(change), nl=False)
        return
    for line in diff(change):
        shown = visible(line.rstrip("\r\n").replace("\t", "    "))
        click.echo(_colored(shown) if closing.colored(1) else shown)


def _colored(line: str) -> str:
    is_name = line.startswith(("--- ", "+++ "))
    color = None if is_name else DIFF_COLORS.get(line[:1])
    return click.style(line, fg=color, bold=is_name or None)


def diff(change: Change) -> list[str]:
    """Return a unified diff that `patch -p1` takes."""
    from speedprof.reports.escape import visible

    name = visible(closing.shown_path(change.source.path))
    names = (name, name) if os.path.isabs(name) else (f"a/{name}", f"b/{name}")
    source, plain = change.source, change.source.encoding.replace("-sig", "")  # the mark is text
    before, after = source.content.decode(plain), source.encoded(change.text).decode(plain)
    return list(_ended(difflib.unified_diff(_lines(before), _lines(after), *names)))


def patch(change: Change) -> bytes:
    """Return the diff for `patch`: bytes as the file has them."""
    return "".join(diff(change)).encode(change.source.encoding.replace("-sig", ""))


def _lines(text: str) -> list[str]:
    """Return lines with their ends, as `patch` counts them: form feeds end none."""
    return [line + "\n" for line in text.split("\n")[:-1]] + (
        [last] if (last := text.rpartition("\n")[2]) else []
    )


def _ended(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if not line.endswith("\n"):
            yield "\n\\ No newline at end of file\n"


def _tell_of(outcome: Outcome) -> None:
    from speedprof.reports.escape import visible

    name, state = outcome.name, STATES[outcome.state]
    if closing.colored(2):
        name, state = click.style(name, bold=True), click.style(state, fg=COLORS[outcome.state])
    click.echo(
        f"{name}: {state}" + (f" ({visible(outcome.why)})" if outcome.why else ""), err=True
    )


def _tell_end(proposal: Proposal, backups: Sequence[Path], *, for_good: bool) -> None:
    for change, backup in zip(proposal.changes, backups, strict=False):
        shown = closing.shown_path(change.source.path)
        _tell(f"changed {shown}; what it was is in {closing.shown_path(backup)}")
    if not proposal.changes:
        _tell("no file would change" if not for_good else "no file was changed")
        _tell_other_way(proposal)
    elif not for_good:
        _tell("nothing was changed yet; --write does it")


def _tell_other_way(proposal: Proposal) -> None:
    """Say how what cannot be written is put in force all the same."""
    from speedprof.mitigations.applied.automatic import AUTOMATIC
    from speedprof.mitigations.rewrite.order import REFUSED

    known = [one for one in proposal.outcomes if one.name in AUTOMATIC]
    refused = ",".join(one.asked or one.name for one in known if one.state == REFUSED)
    if refused:
        _tell(f"`speedprof run --apply {refused}` tries it without a change of a file")


def _tell(text: str) -> None:
    from speedprof.reports.escape import visible

    click.echo(visible(text), err=True)
