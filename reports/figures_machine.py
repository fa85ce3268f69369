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

PANEL, GAP, FOOT = 84, 34, 44  # user units
MOST_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One quantity over time; `main` is filled, the other one is a line."""

    title: str
    unit: str
    main: list[float]
    other: list[float] | None
    top: float | None  # None: as high as it gets


def draw(machine: Machine, number: int) -> Figure | None:
    """Draw what was sampled on one node; None where that was less than two looks."""
    if len(machine.samples) < 2:
        return None
    panels = _panels(machine)
    name = f"machine-{number}"
    title = f"{machine.node} while the run lasted"
    description = (
        f"{len(machine.samples)} samples of "
        + ", ".join(panel.title for panel in panels)
        + ". Filled: this run's processes; line: the whole machine or the second quantity named."
    )
    with figures.drawing(name):
        svg = _svg(machine, panels, name=name, title=title, description=description)
    return Figure(
        name=name,
        title=title,
        description=description,
        svg=svg,
        legend=(("fill-accent", "first quantity named"), ("stroke-second", "second")),
        table=_table(machine, panels),
    )


def _panels(machine: Machine) -> list[Series]:
    samples = machine.samples
    panels = [
        Series(
            title="CPU: this run, all processes",
            unit="%",
            main=[100 * sample.tree_cpu for sample in samples],
            other=[100 * sample.cpu for sample in samples],
            top=100,
        ),
        Series(
            title="memory: this run",
            unit="GB",
            main=[sample.memory_bytes / 1e9 for sample in samples],
            other=None,
            top=None,
        ),
    ]
    panels += _rates(samples, "storage: read, written", ("read_bytes_per_s", "write_bytes_per_s"))
    network = ("received_bytes_per_s", "sent_bytes_per_s")
    panels += _rates(samples, "network: received, sent", network)
    return panels + _gpu_panels(samples)


def _rates(samples: list[Sample], title: str, names: tuple[str, str]) -> list[Series]:
    first, second = ([getattr(sample, name) for sample in samples] for name in names)
    if any(value is None for value in first + second) or not any(first + second):
        return []
    main, other = ([value / 1e6 for value in values] for values in (first, second))
    return [Series(title=title, unit="MB/s", main=main, other=other, top=None)]


def _gpu_panels(samples: list[Sample]) -> list[Series]:
    busy = _over_gpus(samples, lambda values: sum(values) / len(values))
    if busy is None:
        return []
    least = _over_gpus(samples, min)
    several = len(samples[0].gpus) > 1
    title = "GPU: mean, least busy" if several else "GPU: busy"
    return [Series(title=title, unit="%", main=busy, other=least if several else None, top=100)]


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
    axes.fill_between(at, 0, panel.main, color=ink["accent"], linewidth=0)
    if panel.other is not None:
        axes.plot(at, panel.other, color=ink["second"], linewidth=1.2)
    highest = max(panel.main + (panel.other or []))
    axes.set_ylim(0, panel.top or max(highest * 1.1, 1e-6))
    axes.locator_params(axis="y", nbins=3)
    figures.unit(axes, f"{panel.unit}   {panel.title}")


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
            *(Column(f"{panel.title.split(',')[0]} ({panel.unit})", "number") for panel in panels),
        ),
        rows=tuple(rows),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
