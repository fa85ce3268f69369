"""A remedy put in force in the test's own process, for the test to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speedprof.mitigations.applied.process import Applied, Process


def applied(process: Process, name: str, **parameters: object) -> Applied:
    """Put a remedy in force; return what comes of it."""
    process.apply([{"name": name, "parameters": parameters}])
    return process.applied[-1]
