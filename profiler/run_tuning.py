"""What a tuning of a script tried and kept, as its files and the tuned run's report tell it."""

from __future__ import annotations

import msgspec

from speedprof.profiler.fact import Fact

FILE = "tune.json"  # in the folder of the trials, and in the run under the plan
FORMAT = 1
Value = bool | int | float | str


class Ratio(Fact, frozen=True, kw_only=True):
    """Old step / new step; above 1 is faster."""

    ratio: float
    low: float  # 95 % interval
    high: float


class Range(Fact, frozen=True, kw_only=True):
    low: float
    high: float


class PlanRemedy(Fact, frozen=True, kw_only=True):
    name: str
    parameters: dict[str, Value]


class TriedRemedy(Fact, frozen=True, kw_only=True):
    """A remedy that was tried, what was predicted of it and what came of it."""

    name: str
    parameters: dict[str, Value]
    predicted: Range | None
    measured: Ratio | None
    proved: bool | None  # None: not asked for, or it could not be told
    proof: str | None  # what was compared
    kept: bool
    why: str
    trials: list[str]  # their folders


class Tuning(Fact, frozen=True, kw_only=True):
    """A whole tuning."""

    format: int
    ended: str
    plan: list[PlanRemedy]
    speedup: Ratio | None  # of the whole plan, in fresh pairs of trials
    before: str | None  # folder of the run as it was
    after: str | None  # and under the plan
    tried: list[TriedRemedy]


def decoded(text: bytes) -> Tuning | None:
    """Return what a file tells; None where it is damaged or a newer version's."""
    try:
        found = msgspec.json.decode(text, type=Tuning)
    except msgspec.DecodeError:
        return None
    return found if found.format <= FORMAT else None
