"""The ranks side by side: one stacked column each, in milliseconds a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler.run import PHASES
from speedprof.reports import figures, wording
from speedprof.reports.parts import Column, Figure, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from speedprof.profiler.run import Phase, Rank

HEIGHT = 270
MOST_RANKS = 256  # columns that can still be told apart at this width


def draw(ranks: list[Rank], late_rank: int | None) -> Figure | None:
    """Draw the phases of each rank; None where fewer than two of them were measured."""
    measured = [(rank, rank.phases) for rank in ranks if rank.phases is not None]
    if len(measured) < 2:
        return None
    shown = measured[:MOST_RANKS]
    title = "Where each rank's step goes"
    description = _description(len(shown), len(ranks), late_rank)
    with figures.drawing("ranks"):
        figure = figures.canvas(HEIGHT)
        axes = figures.axes(figure, top=30)
        _plot(axes, shown, late_rank)
        svg = figures.finished(figure, name="ranks", title=title, description=description)
    present = [name for name in PHASES if any(phases[name].share > 0 for _, phases in shown)]
    return Figure(
        name="ranks",
        title=title,
        description=description,
        svg=svg,
        legend=tuple((f"fill-phase-{name}", wording.PHASE_NAMES[name]) for name in present),
        table=_table(ranks),
    )


def _plot(axes: Axes, shown: list[tuple[Rank, dict[str, Phase]]], late_rank: int | None) -> None:
    foot = [0.0] * len(shown)
    for name in PHASES:
        boxes = []
        for place, (_, phases) in enumerate(shown):
            height = phases[name].ms
            if height > 0:
                boxes.append((place - 0.36, place + 0.36, foot[place], foot[place] + height))
            foot[place] += height
        figures.boxes(axes, boxes, f"phase-{name}")
    tallest = max(foot)
    axes.set_xlim(-0.6, max(len(shown), 4) - 0.4)
    axes.set_ylim(0, tallest * 1.1)
    stride = max(1, -(-len(shown) // 16))
    places = range(0, len(shown), stride)
    axes.set_xticks(list(places))
    axes.set_xticklabels([str(shown[place][0].rank) for place in places])
    axes.set_xlabel("rank", color=figures.INK["muted"], fontsize=12)
    figures.unit(axes, "ms a step")
    for place, (rank, _) in enumerate(shown):
        if rank.rank == late_rank:
            axes.text(
                place, tallest * 1.01, "late", ha="center", va="bottom", fontsize=12,
                color=figures.INK["ink"],
            )  # fmt: skip


def _description(shown: int, ranks: int, late_rank: int | None) -> str:
    sentence = f"One column for each of {shown} ranks, its phases stacked."
    if shown < ranks:
        sentence = f"The first {shown} of {ranks} ranks, a column each, phases stacked."
    if late_rank is not None:
        sentence += (
            f" Rank {late_rank} is the late one: the others' communication is waiting for it."
        )
    return sentence


def _table(ranks: list[Rank]) -> Table:
    rows = []
    for rank in ranks[:MOST_RANKS]:
        shares = [None if rank.phases is None else rank.phases[name].share for name in PHASES]
        rows.append(
            (
                f"{rank.rank}",
                rank.node,
                rank.device,
                None if rank.step_ms is None else wording.ms(rank.step_ms.median_ms),
                *(wording.percent(share) for share in shares),
                wording.quantity(rank.peak_memory_bytes, "B"),
                wording.quantity(rank.peak_device_bytes, "B"),
            )
        )
    return Table(
        caption="Ranks",
        columns=(
            Column("rank", "number"),
            Column("node"),
            Column("device"),
            Column("median step", "number"),
            *(Column(wording.PHASE_NAMES[name], "number") for name in PHASES),
            Column("peak memory", "number"),
            Column("peak device memory", "number"),
        ),
        rows=tuple(rows),
    )
