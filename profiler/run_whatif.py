"""What trials of a script showed: ceilings that were measured, each with one cost taken away."""

from __future__ import annotations

import msgspec

from speedprof.profiler.fact import Fact

FILE = "whatif.json"  # in the folder of the trials, and in the run of the first real one
FORMAT = 1


class Rate(Fact, frozen=True, kw_only=True):
    """How much goes through in a second, in one process."""

    per_s: float
    unit: str  # "samples", or "batches" where samples could not be counted
    low: float | None = None  # 95 % interval, from the spread between steps
    high: float | None = None


class TrialFact(Fact, frozen=True, kw_only=True):
    """One trial: the script, started once more."""

    kind: str  # "real", "replayed", "on_device", "loader", "no_communication"
    folder: str  # within the folder of the trials
    wall_s: float
    steps: int = 0  # measured ones; batches of the loader alone
    step_ms: float | None = None  # mean
    handout_ms: float | None = None  # per step: what handing out a kept batch took
    problem: str | None = None  # why it tells nothing
    notes: list[str] = msgspec.field(default_factory=list)


class MeasuredCeiling(Fact, frozen=True, kw_only=True):
    """How much faster the script ran with one cost taken away."""

    kind: str  # as TrialFact's
    speedup: float  # real step / step of the trial
    low: float  # 95 % interval from the spread between steps, widened by that between trials
    high: float
    step_ms: float  # of the trial
    real_ms: float


class Missing(Fact, frozen=True, kw_only=True):
    """A trial that was not made or told nothing."""

    kind: str
    why: str


class WhatIf(Fact, frozen=True, kw_only=True):
    """All trials of one `speedprof whatif`."""

    format: int = FORMAT
    name: str
    command: list[str]
    finished: bool  # False: Ctrl-C, or the machine, ended it before the last trial
    trials: list[TrialFact] = msgspec.field(default_factory=list)
    real: Rate | None = None
    training: Rate | None = None  # with batches from memory: what the loader has to keep up with
    loader: Rate | None = None  # alone: what it can give
    ceilings: list[MeasuredCeiling] = msgspec.field(default_factory=list)
    missing: list[Missing] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)

    def bound(self) -> Rate | None:
        """Return the lesser of the two rates: no loader of this cost lets training go faster."""
        if self.training is None or self.loader is None:
            return None
        if self.training.unit != self.loader.unit:
            return None
        return min(self.training, self.loader, key=lambda rate: rate.per_s)


def decoded(text: bytes) -> WhatIf | None:
    """Return what a file says; None where it is damaged or a newer version's."""
    try:
        found = msgspec.json.decode(text, type=WhatIf)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.format <= FORMAT else None
