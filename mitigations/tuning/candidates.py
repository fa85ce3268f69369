"""Which remedies, with which parameters, are worth a trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.trial import Plan


def advised(name: str, parameters: object) -> Remedy:
    """Return the remedy with the advised parameters that can be set, named in the plan."""
    known = AUTOMATIC[name].parameters
    given = dict(parameters) if isinstance(parameters, dict) else {}
    main = AUTOMATIC[name].main
    chosen = {key: value for key, value in given.items() if key in known}
    if main is not None and main not in chosen and known[main].default is not None:
        chosen[main] = known[main].default
    return Remedy(name=name, parameters=chosen)


def together(plan: Plan, *remedies: Remedy) -> Plan:
    """Return the plan with these, in place of the same ones with other parameters."""
    names = {one.name for one in remedies}
    return (*(one for one in plan if one.name not in names), *remedies)


def neighbours(remedy: Remedy) -> Iterator[Remedy]:
    workers = remedy.parameters.get("num_workers")
    if remedy.name == "loader-workers" and isinstance(workers, int):
        for other in (workers + 1, workers - 1):
            if other >= 1:
                yield replace(remedy, parameters={**remedy.parameters, "num_workers": other})
