"""How the time of a tuning is spent: what a trial is likely to take, and what is kept back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from speedprof.mitigations.tuning.trial import COMPILED, Plan, Trial

# Compiling the model of a planted script for the first time took 15 to 40 s on two cores, of which
# a second trial finds most in torch's own cache.
COMPILING_S = 30.0
TRACED_TIMES = 1.5  # as long take trials with windows
PATIENCE = 4.0  # times what a trial is likely to take; a longer one hangs, or is no remedy
LEAST_PATIENCE_S = 30.0
PAIRS = 2  # of trials, for which time is kept: the whole plan against the script as it is
MOST_KEPT_BACK = 0.25  # of the budget: first there has to be a plan


class OutOfTimeError(Exception):
    """The budget does not hold another trial."""


@dataclass(kw_only=True)
class Budget:
    """A time to spend, from now on."""

    whole_s: float
    most_s: float  # that a single trial may take at all
    began_s: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        return self.whole_s - (time.monotonic() - self.began_s)

    def patience_s(self, likely_s: float) -> float:
        """Return after how long a trial is ended."""
        return min(self.most_s, max(LEAST_PATIENCE_S, PATIENCE * likely_s))


def likely_s(plan: Plan, made: Sequence[Trial], *, windows: bool = False) -> float:
    """Return how long a trial is likely to take: as the same did last, or the last two others."""
    well = [one for one in made if one.problem is None]
    same = [one.wall_s for one in well if one.plan == plan and one.windows == windows]
    if same:
        return same[-1]
    compiled = [one for one in well if _compiles(one.plan)]
    alike = compiled if _compiles(plan) and compiled else [o for o in well if o not in compiled]
    plain = [one.wall_s / (TRACED_TIMES if one.windows else 1.0) for one in alike]
    likely = max(plain[-2:], default=0.0) * (TRACED_TIMES if windows else 1.0)
    return likely + (COMPILING_S if _compiles(plan) and not compiled else 0.0)


def kept_back_s(plan: Plan, made: Sequence[Trial], whole_s: float) -> float:
    """Return the time that is kept for the whole plan's measurement; none without one."""
    pairs = PAIRS * (likely_s((), made) + likely_s(plan, made))
    return min(pairs, MOST_KEPT_BACK * whole_s) if plan else 0.0


def _compiles(plan: Plan) -> bool:
    return any(one.name == COMPILED for one in plan)
