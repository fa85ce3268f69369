"""The machine over time: cores, memory, storage and accelerators, one panel each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speedprof.reports import figures, wording
from speedprof.reports.parts import Column, Figure, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from speedprof.profiler.run import Machine, Sample

PANEL, GAP, FOOT = 64, 36, 44  # user units
MOST_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One panel: a filled quantity and maybe a second one as a line."""

    title: str
    unit: str
    names: tuple[str, ...]
    main: list[float]
    other: list[float] | None = None
    top: float | None = None  # None: as high as it gets


def draw(machine: Machine, number: int) -> Figure | None:
    """Draw what was sampled on one node; None where that was less than two looks."""
    if len(machine.samples) < 2:
        return None
    panels = _panels(machine)
    name = f"machine-{number}"
    title = f"{machine.node} while the run lasted"
    named = ", ".join(f"{panel.title} ({' and '.join(panel.names)})" for panel in panels)
    description = f"{len(machine.samples)} samples of {named}."
    with figures.drawing(name):
        svg = _svg(machine, panels, name=name, title=title, description=description)
    return Figure(
        name=name,
        title=title,
        description=description,
        svg=svg,
        legend=(),
        table=_table(machine, panels),
    )


def _panels(machine: Machine) -> list[Series]:
    samples = machine.samples
    cpu = Series(
        title="CPU",
        unit="%",
        names=("this run", "all processes"),
        main=[100 * sample.tree_cpu for sample in samples],
        other=[100 * sample.cpu for sample in samples],
        top=100,
    )
    memory = Series(
        title="Memory",
        unit="GB",
        names=("this run",),
        main=[sample.memory_bytes / 1e9 for sample in samples],
    )
    read = [sample.read_bytes_per_s for sample in samples]
    written = [sample.write_bytes_per_s for sample in samples]
    received = [sample.received_bytes_per_s for sample in samples]
    sent = [sample.sent_bytes_per_s for sample in samples]
    return [
        cpu,
        memory,
        *_rates("Storage", ("read", "written"), read, written),
        *_rates("Network", ("received", "sent"), received, sent),
        *_gpu_panels(samples),
    ]


def _rates(
    title: str, names: tuple[str, str], first: list[float | None], second: list[float | None]
) -> list[Series]:
    """Return a panel where both rates were seen in every sample and anything moved."""
    main = [value / 1e6 for value in first if value is not None]
    other = [value / 1e6 for value in second if value is not None]
    if len(main) < len(first) or len(other) < len(second) or not any(main + other):
        return []
    return [Series(title=title, unit="MB/s", names=names, main=main, other=other)]


def _gpu_panels(samples: list[Sample]) -> list[Series]:
    busy = _over_gpus(samples, lambda values: sum(values) / len(values))
    if busy is None:
        return []
    several = len(samples[0].gpus) > 1
    return [
        Series(
            title="GPU busy",
            unit="%",
            names=("mean of all", "least busy") if several else ("busy",),
            main=busy,
            other=_over_gpus(samples, min) if several else None,
            top=100,
        )
    ]


def _over_gpus(samples: list[Sample], merge: Callable[[list[float]], float]) -> list[float] | None:
    merged = []
    for sample in samples:
        values = [100 * gpu.utilisation for gpu in sample.gpus if gpu.utilisation is not None]
        if not values:
            return None
        merged.append(merge(values))
    return merged


def _svg(
    machine: Machine, panels: list[Series], *, name: str, title: str, description: str
) -> str:
    at = [sample.at_s for sample in machine.samples]
    figure = figures.canvas((PANEL + GAP) * len(panels) + FOOT)
    for place, panel in enumerate(reversed(panels)):
        axes = figures.axes(figure, bottom=FOOT + place * (PANEL + GAP), height=PANEL)
        _plot(axes, at, panel)
        if place:
            axes.set_xticklabels([])
        else:
            axes.set_xlabel("seconds since the run began", color=figures.INK["muted"], fontsize=12)
    return figures.finished(figure, name=name, title=title, description=description)


def _plot(axes: Axes, at: list[float], panel: Series) -> None:
    ink = figures.INK
    axes.fill_between(at, 0, panel.main, color=ink["soft"], linewidth=0)
    axes.plot(at, panel.main, color=ink["accent"], linewidth=1)
    if panel.other is not None:
        axes.plot(at, panel.other, color=ink["second"], linewidth=1)
    highest = max(panel.main + (panel.other or []))
    axes.set_ylim(0, panel.top or max(highest * 1.1, 1e-6))
    axes.locator_params(axis="y", nbins=3)
    figures.note(axes, f"{panel.title}, {panel.unit}", at=(0, 1), offset=(0, 7), role="ink")
    if panel.other is not None:
        marked = (f"■ {panel.names[0]}", f"— {panel.names[1]}")
        figures.note(axes, marked[0], at=(1, 1), offset=(-110, 7), role="accent", side="right")
        figures.note(axes, marked[1], at=(1, 1), offset=(0, 7), role="second", side="right")


def _table(machine: Machine, panels: list[Series]) -> Table:
    samples = machine.samples
    size = max(1, -(-len(samples) // MOST_ROWS))
    rows = []
    for first in range(0, len(samples), size):
        means = [_mean(panel.main[first : first + size]) for panel in panels]
        rows.append((f"{samples[first].at_s:,.1f} s", *(wording.number(mean) for mean in means)))
    return Table(
        caption=f"Means over {size} samples each",
        columns=(
            Column("from", "number"),
            *(
                Column(f"{panel.title}, {panel.names[0]} ({panel.unit})", "number")
                for panel in panels
            ),
        ),
        rows=tuple(rows),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
