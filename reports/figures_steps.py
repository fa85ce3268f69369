"""The steps over time: how long each took, and how much of it was waiting for input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.reports import figures, wording
from speedprof.reports.parts import Column, Figure, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from speedprof.profiler.run import StepSeries

HEIGHT = 268
HEADROOM = 1.3  # times the 98th percentile: a few slow first steps must not flatten the rest
FEW = 50  # steps, of which the 98th percentile is the longest
MOST_ROWS = 24  # of the table beside the picture
LEGEND = (
    ("stroke-ink", "whole step"),
    ("fill-phase-data_loading", "waiting for input"),
    ("fill-phase-outside", "outside the step"),
    ("fill-mark", "traced by the profiler"),
)


def draw(series: StepSeries) -> Figure | None:
    """Draw wall time and input wait of each step.

    None where there is no second step to compare.
    """
    if len(series.wall_ms) < 2:
        return None
    title = "Step time over the run"
    top = _top(series.wall_ms)
    description = _description(series, top)
    with figures.drawing("steps"):
        figure = figures.canvas(HEIGHT)
        axes = figures.axes(figure, top=38)
        _plot(axes, series, top)
        svg = figures.finished(figure, name="steps", title=title, description=description)
    return Figure(
        name="steps",
        title=title,
        description=description,
        svg=svg,
        legend=LEGEND if any(series.traced) else LEGEND[:-1],
        table=_table(series),
    )


def _plot(axes: Axes, series: StepSeries, top: float) -> None:
    start, wall = figures.shaped(series.start_s), figures.shaped(series.wall_ms)
    wait = figures.shaped(series.input_wait_ms)
    outside = figures.shaped(series.outside_ms)
    ink = figures.INK
    axes.fill_between(start, 0, wait, color=ink["phase-data_loading"], linewidth=0)
    axes.fill_between(start, wait, wait + outside, color=ink["phase-outside"], linewidth=0)
    axes.plot(start, wall, color=ink["ink"], linewidth=1.2)
    traced = start[figures.shaped([float(flag) for flag in series.traced]) > 0]
    axes.plot(
        traced, [top * 1.04] * len(traced), linestyle="none", marker="v", markersize=6,
        markerfacecolor=ink["mark"], markeredgewidth=0, clip_on=False,
    )  # fmt: skip
    axes.set_ylim(0, top)
    axes.set_xlabel("seconds since the first step", color=ink["muted"], fontsize=12)
    figures.note(axes, "ms a step", at=(0, 1), offset=(0, 17))


def _top(wall: list[float]) -> float:
    """Return where the picture ends; a recorded trace has so few steps that all are shown."""
    if len(wall) < FEW:
        return max(wall) * 1.1 or 1.0
    ordered = sorted(wall)
    return max(ordered[int(0.98 * (len(ordered) - 1))] * HEADROOM, 1e-6)


def _description(series: StepSeries, top: float) -> str:
    wall = sorted(series.wall_ms)
    wait = sorted(series.input_wait_ms)
    middle = len(wall) // 2
    beyond = sum(one > top for one in wall)
    sentence = (
        f"{len(wall)} points; a step typically takes {wording.ms(wall[middle])},"
        f" of which {wording.ms(wait[middle])} are spent waiting for input."
    )
    if beyond:
        sentence += (
            f" {beyond} slower ones, up to {wording.ms(wall[-1])}, leave the picture at the top."
        )
    return sentence


def _table(series: StepSeries) -> Table:
    size = max(1, -(-len(series.wall_ms) // MOST_ROWS))
    rows = []
    for first in range(0, len(series.wall_ms), size):
        part = slice(first, first + size)
        wall, wait = series.wall_ms[part], series.input_wait_ms[part]
        rows.append(
            (
                f"{series.start_s[first]:,.1f} s",
                f"{len(wall)}",
                wording.ms(sum(wall) / len(wall)),
                wording.ms(max(wall)),
                wording.ms(sum(wait) / len(wait)),
                f"{sum(series.traced[part])}",
            )
        )
    columns = ("from", "points", "mean step", "slowest", "mean input wait", "traced")
    return Table(
        caption="Step time over the run, in stretches",
        columns=tuple(Column(label, "number") for label in columns),
        rows=tuple(rows),
    )
