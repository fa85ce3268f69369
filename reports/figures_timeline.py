"""One traced step: what each thread and stream did when, and what the step had to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler.run import PHASES
from speedprof.reports import figures, wording
from speedprof.reports.escape import visible
from speedprof.reports.parts import Column, Figure, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from speedprof.profiler.run import Bar, Lane, Timeline

ROW = 34  # user units for one lane
LABELS = 150  # user units left of the lanes
LONGEST_LABEL = 22
EXPOSED = "exposed"  # the lane of what the step waits for
SHADE = 0.16  # opacity of a stall behind the other lanes
MOST_LANES = 16
MOST_ROWS = 24
Box = tuple[float, float, float, float]  # left, right, bottom, top


def draw(timeline: Timeline, number: int) -> Figure | None:
    """Draw a step's lanes; None where there is nothing in them."""
    lanes = [lane for lane in timeline.lanes if lane.bars][-MOST_LANES:]
    if not lanes or timeline.wall_ms <= 0:
        return None
    name = f"timeline-{number}"
    title = f"Step {timeline.step} of rank {timeline.rank}"
    description = (
        f"{wording.ms(timeline.wall_ms)} in {len(lanes)} lanes, coloured by phase. "
        "The lane 'exposed' is what the step had to wait for; its parts add up to the step, and "
        "its stalls are shaded through all lanes."
    )
    with figures.drawing(name):
        svg = _svg(timeline, lanes, name=name, title=title, description=description)
    present = {bar.phase for lane in lanes for bar in lane.bars}
    return Figure(
        name=name,
        title=title,
        description=description,
        svg=svg,
        legend=tuple(
            (f"fill-phase-{phase}", wording.PHASE_NAMES[phase])
            for phase in PHASES
            if phase in present
        ),
        table=_table(lanes),
    )


def _svg(timeline: Timeline, lanes: list[Lane], *, name: str, title: str, description: str) -> str:
    figure = figures.canvas(ROW * len(lanes) + 48)
    axes = figures.axes(figure, left=LABELS, bottom=42, top=6)
    nearest = timeline.wall_ms / figures.WIDTH / 2
    _shade(axes, timeline, nearest)
    for phase in PHASES:
        boxes = [
            (left, right, row + 0.18, row + 0.82)
            for row, lane in enumerate(reversed(lanes))
            for left, right in _joined(lane.bars, phase, nearest)
        ]
        figures.boxes(axes, boxes, f"phase-{phase}")
    axes.set_xlim(0, timeline.wall_ms)
    axes.set_ylim(0, len(lanes))
    axes.set_yticks([row + 0.5 for row in range(len(lanes))])
    axes.set_yticklabels([_label(lane.name) for lane in reversed(lanes)])
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=figures.INK["grid"], linewidth=1)
    axes.set_xlabel("ms since the step began", color=figures.INK["muted"], fontsize=12)
    return figures.finished(figure, name=name, title=title, description=description)


def _shade(axes: Axes, timeline: Timeline, nearest: float) -> None:
    """Shade through all lanes where the step is held up: what the lane 'exposed' has of stalls."""
    exposed = next((lane.bars for lane in timeline.lanes if lane.name == EXPOSED), [])
    for phase in PHASES:
        if phase != "compute":
            spans = _joined(exposed, phase, nearest)
            boxes = [(left, right, 0.0, float(MOST_LANES)) for left, right in spans]
            figures.boxes(axes, boxes, f"phase-{phase}", opacity=SHADE)


def _label(name: str) -> str:
    shown = visible(name).replace('"', "”")
    return shown if len(shown) <= LONGEST_LABEL else shown[: LONGEST_LABEL - 1] + "…"


def _joined(bars: list[Bar], phase: str, nearest: float) -> list[tuple[float, float]]:
    """Join bars of a phase whose gap is below half a unit: nobody could see it."""
    joined: list[tuple[float, float]] = []
    for bar in sorted(bars, key=lambda bar: bar.start_ms):
        if bar.phase != phase:
            continue
        if joined and bar.start_ms - joined[-1][1] < nearest:
            joined[-1] = (joined[-1][0], max(bar.end_ms, joined[-1][1]))
        else:
            joined.append((bar.start_ms, max(bar.end_ms, bar.start_ms + nearest)))
    return joined


def _table(lanes: list[Lane]) -> Table:
    longest = sorted(
        ((bar.end_ms - bar.start_ms, lane.name, bar) for lane in lanes for bar in lane.bars),
        key=lambda found: -found[0],
    )[:MOST_ROWS]
    rows = tuple(
        (lane, bar.label, bar.phase, wording.ms(bar.start_ms), wording.ms(length))
        for length, lane, bar in longest
    )
    return Table(
        caption=f"The {len(rows)} longest intervals",
        columns=(
            Column("lane"),
            Column("what", "code"),
            Column("phase", "phase"),
            Column("from", "number"),
            Column("for", "number"),
        ),
        rows=rows,
    )
