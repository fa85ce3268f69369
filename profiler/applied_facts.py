"""Which remedies were in force in a run, and what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler import record_facts as facts
from speedprof.profiler.run import InForce

if TYPE_CHECKING:
    from speedprof.profiler.ranks import Trained


def in_force(part: Trained) -> list[InForce]:
    """Return the remedies of one process, in the order in which they were applied."""
    return [
        InForce(name=one.name, parameters=one.parameters, effects=one.effects, notes=one.notes)
        for one in part.record.all("applied", facts.AppliedFact)
    ]
