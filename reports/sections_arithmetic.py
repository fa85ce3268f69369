"""The page on FLOPs: how fast kinds of work compute, and against which roof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.reports import wording
from speedprof.reports.parts import Column, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import Arithmetic


def pairs(counted: Arithmetic | None) -> tuple[tuple[str, str], ...]:
    if counted is None:
        return ()
    roofs = ", ".join(
        f"{wording.number(rate)} TFLOP/s in {name}" for name, rate in counted.peaks.items()
    )
    return (
        ("FLOPs a step", wording.quantity(counted.flops, "FLOP")),
        ("speed while they run", f"{wording.number(counted.tflops_per_s)} TFLOP/s"),
        ("of the products' time, FLOPs known", wording.percent(counted.coverage)),
        ("MFU", wording.percent(counted.mfu)),
        ("roof", f"{counted.device}: {roofs}" if roofs else wording.DASH),
        ("source of the roof", counted.source or wording.DASH),
    )


def kinds(counted: Arithmetic | None) -> list[Table]:
    if counted is None or not counted.kinds:
        return []
    return [
        Table(
            caption="Kinds of work with known FLOPs",
            columns=(
                Column("kind"),
                Column("a step", "number"),
                Column("of it counted", "number"),
                Column("FLOPs a step", "number"),
                Column("speed", "number"),
                Column("of the roof", "number"),
            ),
            rows=tuple(
                (
                    name,
                    wording.ms(kind.ms),
                    wording.ms(kind.counted_ms),
                    wording.quantity(kind.flops, "FLOP"),
                    f"{wording.number(kind.tflops_per_s)} TFLOP/s",
                    None if kind.of_peak is None else wording.percent(kind.of_peak),
                )
                for name, kind in counted.kinds.items()
            ),
        )
    ]
