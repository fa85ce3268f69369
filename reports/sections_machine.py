"""The page's sections on what the step ran on: ranks, machines, software."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.mitigations import trainers
from speedprof.reports import figures_machine, figures_ranks, measured, sections_ranks, wording
from speedprof.reports.parts import Column, Facts, Figure, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import Communication, Machine, Run

MOST_DRAWN = 2  # machines with a picture; the table has all of them


def ranks(run: Run) -> Section | None:
    parts: list[Facts | Table | Figure] = []
    late = None
    if run.communication is not None:
        parts.append(Facts(pairs=_communication(run.communication)))
        late = run.communication.late_rank
        parts += sections_ranks.matched(run.communication.matching)
    figure = figures_ranks.draw(run.ranks, late)
    if figure is not None:
        parts.append(figure)
    if not parts:
        return None
    said = measured.ranks(run)
    lead = (
        figure.description if figure is not None and said is None else f"{said}." if said else ""
    )
    return Section(name="ranks", title="Communication and ranks", lead=lead, parts=tuple(parts))


def _communication(spent: Communication) -> tuple[tuple[str, str], ...]:
    late = wording.DASH
    if spent.late_rank is not None:
        late = f"rank {spent.late_rank}"
        if spent.late_rank_share is not None:
            late += f", {wording.percent(spent.late_rank_share)} of the waiting"
        if spent.late_rank_phase is not None:
            late += f", by {wording.PHASE_NAMES.get(spent.late_rank_phase, spent.late_rank_phase)}"
    return (
        ("exposed", wording.ms(spent.exposed_ms)),
        ("in all, overlapped or not", wording.ms(spent.total_ms)),
        ("transfer", wording.ms(spent.transfer_ms)),
        ("waiting for a late rank", wording.ms(spent.waiting_ms)),
        ("late", late),
        ("collectives a step", wording.count(spent.collectives)),
        ("sent a step", wording.quantity(spent.bytes, "B")),
    )


def machines(run: Run) -> Section | None:
    if not run.machines:
        return None
    drawn = (figures_machine.draw(one, at) for at, one in enumerate(run.machines[:MOST_DRAWN]))
    figures = tuple(figure for figure in drawn if figure is not None)
    return Section(
        name="machine",
        title="The machine over time" if len(run.machines) == 1 else "The machines over time",
        parts=(_machines(run.machines), *figures),
    )


def _machines(all_machines: list[Machine]) -> Table:
    return Table(
        caption="What the run had",
        columns=(
            Column("node"),
            Column("processor"),
            Column("cores", "number"),
            Column("memory", "number"),
            Column("accelerators"),
            Column("CPU load", "bar"),
            Column("of it other programs", "bar"),
            Column("limit"),
        ),
        rows=tuple(
            (
                one.node,
                one.cpu,
                wording.count(one.cores),
                wording.quantity(one.memory_bytes, "B"),
                ", ".join(sorted({f"{one.gpus.count(gpu)} × {gpu}" for gpu in one.gpus}))
                or "none",
                one.cpu_load,
                one.other_load,
                one.start_limit or "none",
            )
            for one in all_machines
        ),
    )


def environment(run: Run) -> Section:
    known = run.environment
    versions = (
        ("Python", known.python),
        ("torch", known.torch),
        ("CUDA", known.cuda),
        ("torchvision", known.torchvision),
        ("intra-op threads", None if known.threads is None else str(known.threads)),
        *known.flags.items(),
    )
    parts: list[Facts | Table] = [
        Facts(
            pairs=tuple(
                (name, wording.DASH if value is None else value)
                for name, value in versions
                if value is not None or run.kind != "trace"
            )
        )
    ]
    if run.models:
        parts.append(_models(run))
    if run.optimizers:
        parts.append(_optimizers(run))
    return Section(name="environment", title="Environment", parts=tuple(parts))


def _models(run: Run) -> Table:
    return Table(
        caption="Model",
        columns=(
            Column("class", "code"),
            Column("parameters", "number"),
            Column("size", "number"),
            Column("types"),
            Column("compiled"),
            Column("wrapped in", "code"),
        ),
        rows=tuple(
            (
                model.name,
                wording.quantity(model.parameters, ""),
                wording.quantity(model.bytes, "B"),
                ", ".join(model.dtypes),
                wording.yes(model.compiled),
                model.wrapped or "nothing",
            )
            for model in run.models
        ),
    )


def _optimizers(run: Run) -> Table:
    libraries = any(one.trainer for one in run.optimizers)
    return Table(
        caption="Optimizer",
        columns=(
            Column("class", "code"),
            Column("line", "code"),
            Column("tensors", "number"),
            Column("elements", "number"),
            Column("fused"),
            Column("foreach"),
            *((Column("in the loop of"),) if libraries else ()),
        ),
        rows=tuple(
            (
                one.name,
                one.where,
                wording.count(one.parameters),
                wording.quantity(one.elements, ""),
                wording.yes(one.fused),
                wording.yes(one.foreach),
                *((trainers.NAMES.get(one.trainer or "", wording.DASH),) if libraries else ()),
            )
            for one in run.optimizers
        ),
    )
