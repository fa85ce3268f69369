"""Which remedies, with which parameters, are worth a trial, and in which order.

First what the advice predicts most of, for the time that it takes: all that fits and not the first
eight alone. Then other values of parameters in force, while what they are for still costs
something. Last what the prediction speaks against, in a phase that takes a tenth of the step or
more: predictions err.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from speedprof.advisor.judgement import judge
from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.catalogue import find, fits
from speedprof.mitigations.mitigation import Gain
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning import unadvised
from speedprof.mitigations.tuning.decision import WORTH
from speedprof.mitigations.tuning.trial import COMPILED, Plan
from speedprof.profiler.run import Run

Key = tuple[str, str]
COSTS = {COMPILED: 6.0}  # times a usual trial: compiling takes 15 to 60 s on two cores


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A remedy to try, what is predicted of it, and what else changes with it."""

    remedy: Remedy
    predicted: Gain | None = None
    beside: Plan = ()  # remedies that it needs to be worth it
    instead: tuple[str, ...] = ()  # remedies in force that it does not go together with

    @property
    def key(self) -> Key:
        return key(self.remedy)

    def within(self, plan: Plan) -> Plan:
        """Return the plan with this in force."""
        rest = tuple(one for one in plan if one.name not in self.instead)
        return together(rest, *self.beside, self.remedy)


def key(remedy: Remedy) -> Key:
    return remedy.name, repr(sorted(remedy.parameters.items()))


def candidates(run: Run, plan: Plan, wanted: Plan = ()) -> list[Candidate]:
    """Return what may make this run shorter, which was made under the plan; best first.

    What is wanted by name comes before all else, advised or not. What is in force already is left
    out. Of the same remedy with the same values, the first.
    """
    found: dict[Key, Candidate] = {}
    asked = [_asked(one, plan) for one in wanted]
    by_rank = [*_advised(run, plan), *_valued(run, plan), *_explored(run, plan)]
    for one in [*by_rank, *asked]:
        if one.remedy not in plan:
            found.setdefault(one.key, one)
    first = {one.key for one in asked}
    return in_order(found.values(), first)


def in_order(found: Iterable[Candidate], first: Collection[Key] = ()) -> list[Candidate]:
    """Return them with the largest predicted gain for the time that trials take first.

    What is asked for comes before all else. Of what no model speaks for, no more is hoped than
    what makes a remedy worth it.
    """
    return sorted(found, key=lambda one: (one.key not in first, _promise(one)))


def _asked(remedy: Remedy, plan: Plan) -> Candidate:
    whole = advised(remedy.name, dict(remedy.parameters))
    return Candidate(remedy=whole, instead=rivals(remedy.name, plan))


def _promise(one: Candidate) -> float:
    gain = one.predicted
    hope = math.log((gain.low + gain.high) / 2 if gain is not None else WORTH)
    return -round(hope / COSTS.get(one.remedy.name, 1.0), 3)


def _advised(run: Run, plan: Plan) -> Iterator[Candidate]:
    for advice in fits(run, judge(run)):
        name, gain = advice.mitigation.name, advice.fit.gain
        if name in AUTOMATIC and (gain is None or gain.high >= WORTH):
            yield Candidate(
                remedy=advised(name, advice.fit.parameters),
                predicted=gain,
                beside=tuple(advised(*other) for other in advice.fit.beside.items()),
                instead=rivals(name, plan),
            )


def _valued(run: Run, plan: Plan) -> Iterator[Candidate]:
    for remedy, gain in unadvised.values(run, plan):
        yield Candidate(remedy=remedy, predicted=gain)


def _explored(run: Run, plan: Plan) -> Iterator[Candidate]:
    for name, parameters in unadvised.remedies(run, plan):
        if name in AUTOMATIC and all(one.name != name for one in plan):
            remedy = advised(name, parameters)
            yield Candidate(remedy=remedy, instead=rivals(name, plan))


def rivals(name: str, plan: Plan) -> tuple[str, ...]:
    """Return the remedies of the plan that do not go together with this one."""
    against = find(name).conflicts
    return tuple(
        one.name for one in plan if one.name in against or name in find(one.name).conflicts
    )


def advised(name: str, parameters: object) -> Remedy:
    """Return the remedy with the advised parameters that can be set, named in the plan."""
    known = AUTOMATIC[name].parameters
    given = dict(parameters) if isinstance(parameters, dict) else {}
    main = AUTOMATIC[name].main
    chosen = {key: value for key, value in given.items() if key in known}
    if main is not None and main not in chosen and known[main].default is not None:
        chosen[main] = known[main].default
    return Remedy(name=name, parameters=chosen)


def named(remedy: Remedy) -> str:
    """Show a remedy with its values: "loader-workers (num_workers=2)"."""
    inside = ", ".join(f"{key}={value}" for key, value in remedy.parameters.items())
    return f"{remedy.name} ({inside})" if inside else remedy.name


def together(plan: Plan, *remedies: Remedy) -> Plan:
    """Return the plan with these, in place of the same ones with other parameters."""
    names = {one.name for one in remedies}
    return (*(one for one in plan if one.name not in names), *remedies)
