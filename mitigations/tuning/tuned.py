"""What a tuning was asked for, what it tried, and what is proved by now."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from speedprof.mitigations.mitigation import Gain
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.decision import Speedup
from speedprof.mitigations.tuning.proof import Proof
from speedprof.mitigations.tuning.trial import Length, Plan
from speedprof.profiler.interpreter import Target

NO_TIME = "the budget is used up"
LATE = f"not tried: {NO_TIME}"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to tune, how long, and what may be changed."""

    target: Target
    parent: Path  # of the folder of trials
    name: str | None = None
    budget_s: float = 600.0
    safety: str = "rounding"  # the least safe that is tried
    allow: tuple[str, ...] = ()  # remedies beyond it
    wanted: Plan = ()  # remedies to try first, advised or not
    length: Length = field(default_factory=Length)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One remedy, what was predicted of it and what came of it."""

    remedy: Remedy
    predicted: Gain | None
    measured: Speedup | None
    proof: Proof | None
    kept: bool
    why: str
    trials: tuple[str, ...]  # their folders; none where it was not tried


@dataclass(kw_only=True)
class Tuned:
    """What is proved so far."""

    folder: Path
    plan: Plan = ()
    tried: list[Tried] = field(default_factory=list)
    total: Speedup | None = None
    before: Path | None = None  # runs with windows: as it was, and under the plan
    after: Path | None = None
    ended: str = "interrupted"
