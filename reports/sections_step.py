"""The page's sections on the step itself.

Over time, traced, on the host, on the device, between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.reports import figures_steps, figures_timeline, sections_arithmetic, wording
from speedprof.reports.parts import Column, Facts, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import Compute, Line, Run, SyncCall

MOST_LINES = 20
MOST_STEPS = 2  # drawn; the late rank's first


def over_time(run: Run) -> Section | None:
    figure = None if run.series is None else figures_steps.draw(run.series)
    if figure is None:
        return None
    return Section(
        name="over-time", title="Steps over time", lead=figure.description, parts=(figure,)
    )


def traced(run: Run) -> Section | None:
    late = run.communication.late_rank if run.communication is not None else None
    ordered = sorted(run.timelines, key=lambda timeline: timeline.rank != late)
    drawn = (figures_timeline.draw(line, at) for at, line in enumerate(ordered[:MOST_STEPS]))
    figures = tuple(figure for figure in drawn if figure is not None)
    if not figures:
        return None
    return Section(
        name="traced",
        title="A traced step",
        lead="What each thread and stream did when. The lane “exposed” is what the step had to"
        " wait for; its parts add up to the step. Where it holds a stall, all lanes are shaded.",
        parts=figures,
    )


def host(run: Run) -> Section | None:
    parts: list[Facts | Table] = []
    if run.host is not None:
        kinds = run.host
        parts.append(
            Facts(
                pairs=(
                    ("launching work", wording.ms(kinds.launch_ms)),
                    ("Python", wording.ms(kinds.python_ms)),
                    ("allocator", wording.ms(kinds.allocator_ms)),
                    ("synchronising", wording.ms(kinds.synchronisation_ms)),
                    ("garbage collector", wording.ms(run.garbage_ms)),
                )
            )
        )
    if run.lines:
        parts.append(_lines(run.lines))
    if run.sync_calls:
        parts.append(_sync_calls(run.sync_calls))
    if not parts:
        return None
    lead = "Source lines where the training thread was seen, and what the step spent there."
    return Section(
        name="host",
        title="Where host time goes",
        lead=lead if run.lines else "",
        parts=tuple(parts),
    )


def _lines(lines: list[Line]) -> Table:
    return Table(
        caption="Lines, largest first",
        columns=(
            Column("line", "code"),
            Column("code", "code"),
            Column("phase", "phase"),
            Column("kind"),
            Column("share", "bar"),
            Column("a step", "number"),
        ),
        rows=tuple(
            (
                f"{line.where} in {line.function}",
                line.code,
                line.phase,
                line.kind,
                line.share,
                wording.ms(line.ms),
            )
            for line in lines[:MOST_LINES]
        ),
    )


def _sync_calls(calls: list[SyncCall]) -> Table:
    return Table(
        caption="Calls that wait for the device",
        columns=(
            Column("call", "code"),
            Column("line", "code"),
            Column("calls a step", "number"),
            Column("a step", "number"),
        ),
        rows=tuple(
            (
                call.what,
                call.where,
                wording.number(call.calls_per_step),
                wording.ms(call.ms_per_step),
            )
            for call in calls[:MOST_LINES]
        ),
    )


def outside(run: Run) -> Section | None:
    spent = run.outside
    if spent is None or not any(
        (spent.checkpoint_ms, spent.evaluation_ms, spent.logging_ms, spent.other_ms)
    ):
        return None
    pairs = (
        ("checkpoints", wording.ms(spent.checkpoint_ms)),
        ("evaluation", wording.ms(spent.evaluation_ms)),
        ("logging", wording.ms(spent.logging_ms)),
        ("other", wording.ms(spent.other_ms)),
    )
    return Section(
        name="outside",
        title="Outside the step",
        lead="Time between training steps, spread over all of them.",
        parts=(Facts(pairs=pairs),),
    )


def compute(run: Run) -> Section | None:
    measured = run.compute
    if measured is None:
        return None
    parts: list[Facts | Table] = [
        Facts(pairs=_compute_facts(measured) + sections_arithmetic.pairs(measured.arithmetic))
    ]
    if measured.kinds:
        parts.append(_kinds(measured))
    parts += sections_arithmetic.kinds(measured.arithmetic)
    if measured.operators:
        parts.append(_operators(measured))
    return Section(name="compute", title="Compute", parts=tuple(parts))


def _compute_facts(measured: Compute) -> tuple[tuple[str, str], ...]:
    bound = "cannot tell" if measured.bound is None else measured.bound.replace("_", " ")
    return (
        ("forward", wording.ms(measured.forward_ms)),
        ("backward", wording.ms(measured.backward_ms)),
        ("optimizer", wording.ms(measured.optimizer_ms)),
        ("operators a step", wording.count(measured.operators_per_step)),
        ("bound by", bound),
    )


def _kinds(measured: Compute) -> Table:
    whole = sum(measured.kinds.values()) or 1.0
    ordered = sorted(measured.kinds.items(), key=lambda item: -item[1])
    return Table(
        caption="Kinds of work",
        columns=(Column("kind"), Column("share of compute", "bar"), Column("a step", "number")),
        rows=tuple((kind, spent / whole, wording.ms(spent)) for kind, spent in ordered),
    )


def _operators(measured: Compute) -> Table:
    whole = sum(measured.kinds.values()) or sum(one.ms for one in measured.operators) or 1.0
    return Table(
        caption="Operators by their own time",
        columns=(
            Column("operator", "code"),
            Column("kind"),
            Column("share of compute", "bar"),
            Column("a step", "number"),
            Column("calls", "number"),
        ),
        rows=tuple(
            (
                wording.shortened(one.name),
                one.kind,
                min(one.ms / whole, 1.0),
                wording.ms(one.ms),
                wording.number(one.calls),
            )
            for one in measured.operators
        ),
    )
