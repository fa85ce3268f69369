"""The page's tables on collectives matched over the ranks: who waited, and for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.reports import measured, wording
from speedprof.reports.parts import Column, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import Matching

MOST_ROWS = 64


def matched(found: Matching | None) -> list[Table]:
    """Return the late ranks, and every rank in the collectives; times are of all that is known."""
    if found is None or not found.ranks:
        return []
    return [*([_late(found)] if found.stragglers else []), _ranks(found)]


def _late(found: Matching) -> Table:
    return Table(
        caption="Ranks that the others waited for, worst first",
        columns=(
            Column("rank", "number"),
            Column("of all waiting", "bar"),
            Column("caused", "number"),
            Column("what kept it"),
        ),
        rows=tuple(
            (
                str(late.rank),
                min(late.share, 1.0),
                wording.ms(late.caused_ms),
                measured.lateness(late).lstrip(",: ") or wording.DASH,
            )
            for late in found.stragglers
        ),
    )


def _ranks(found: Matching) -> Table:
    worst = sorted(found.ranks, key=lambda rank: -rank.inside_ms)[:MOST_ROWS]
    shown = sorted(worst, key=lambda rank: rank.rank)
    more = f", the {MOST_ROWS} that spend most there" if len(found.ranks) > MOST_ROWS else ""
    return Table(
        caption=f"Each rank in {measured.plenty(found.collectives, 'matched collective')}{more}",
        columns=(
            Column("rank", "number"),
            Column("inside", "number"),
            Column("transfer", "number"),
            Column("waited", "number"),
            Column("the others waited for it", "number"),
            Column("clock ahead", "number"),
        ),
        rows=tuple(
            (
                str(rank.rank),
                wording.ms(rank.inside_ms),
                wording.ms(max(rank.inside_ms - rank.waited_ms, 0.0)),
                wording.ms(rank.waited_ms),
                wording.ms(rank.caused_ms),
                wording.ms(rank.clock_ms),
            )
            for rank in shown
        ),
    )
