"""The run against what its machine can do at best: a section of the page, and one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler.roofs.placing import places
from speedprof.reports import roofs_picture, roofs_rows, wording
from speedprof.reports.parts import Column, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.roofs.placing import Place
    from speedprof.profiler.run import Run

TITLE = "The machine against its roofs"
UNKNOWN = "what this machine can do at best is not known; `speedprof roofs` measures it"
NOTHING = "nothing of this run was measured that has a roof here"
LINE = 3  # places in one sentence, which is to stay on one line
_SHORT = {
    "storage": "storage",
    "decoding": "decoding",
    "copies": "copies",
    "matmul": "matrix products",
    "convolution": "convolutions",
    "operators": "operators",
    "all-reduce": "all-reduce",
}


def roofs(run: Run) -> Section | None:
    if run.kind == "trace":
        return None  # the machine that recorded it is not this one
    if run.roofs is None:
        unknown = Section(name="roofs", title=TITLE, lead=f"{UNKNOWN}.")
        return unknown if run.step_ms is not None else None
    said = [f"{roofs_rows.measured_line(run.roofs)}; a roof is the best that was seen"]
    said += roofs_rows.remarks(run.roofs)
    found = places(run)
    if not found:
        said.insert(0, NOTHING)
    figure = roofs_picture.draw(run.roofs)
    return Section(
        name="roofs",
        title=TITLE,
        lead=f"{'. '.join(one[0].upper() + one[1:] for one in said)}.",
        parts=(*([_table(found)] if found else []), *([figure] if figure is not None else [])),
    )


def sentence(run: Run) -> str | None:
    """Say the run's places in one line, None where there are none."""
    found = sorted((p for p in places(run) if p.share > 0), key=lambda place: -place.share)
    if not found:
        return None
    named = [f"{_SHORT[place.name]} {wording.percent(place.share)}" for place in found[:LINE]]
    return f"of this machine's roofs: {', '.join(named)}"


def _table(found: tuple[Place, ...]) -> Table:
    return Table(
        caption="This run beside the roofs",
        columns=(
            Column("what"),
            Column("this run", "number"),
            Column("roof", "number"),
            Column("of the roof", "bar"),
            Column("the roof is"),
        ),
        rows=tuple(
            (
                place.what,
                f"{wording.number(place.value)} {place.unit}",
                f"{wording.number(place.roof)} {place.unit}",
                place.share,
                place.roof_of,
            )
            for place in found
        ),
    )
