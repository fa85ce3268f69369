"""One trial of the script under a plan, and what it measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from speedprof.mitigations.applied import MODULE
from speedprof.mitigations.plan_files import Remedy
from speedprof.profiler import launcher, reading, trial_runs, trials
from speedprof.profiler.interpreter import Target
from speedprof.profiler.measured_ceilings import FEWEST, Series, series
from speedprof.profiler.prepared_files import FOLDER, Prepared
from speedprof.profiler.record import COLUMN
from speedprof.profiler.record_facts import AppliedFact
from speedprof.profiler.trials.losses import FACT

WARMUP = 5  # steps: allocator, autotuning and the loader's first batches
TRACED = 2  # times as long are trials with windows: steps beside them are left out of the figures
COMPILING = 10  # further ones where something is compiled
COMPILED, KEEPING = "compile-model", "cache-samples"
Tell = Callable[[str], None]
Plan = tuple[Remedy, ...]


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long each trial is: so many steps and seconds, or the most seconds."""

    steps: int = 40
    least_s: float = 4.0
    most_s: float = 15.0
    limit_s: float = 300.0  # of the whole trial, start-up and all

    def within(self, budget_s: float) -> Length:
        """Return the length for a budget: in a short one, more trials tell more than longer ones.

        A trial's start takes seconds whatever it measures, and what differs from start to start
        is told by another start alone.
        """
        return replace(
            self,
            least_s=min(self.least_s, max(1.0, budget_s / 60)),
            most_s=min(self.most_s, max(4.0, budget_s / 12)),
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that is over; a problem is a result, too."""

    plan: Plan
    seed: int
    folder: Path
    wall_s: float
    series: Series | None
    windows: bool = False  # was traced now and then
    losses: list[float] = field(default_factory=list)
    applied: list[AppliedFact] = field(default_factory=list)
    problem: str | None = None

    @property
    def step_ms(self) -> float | None:
        return self.series.step_ms if self.series is not None and not self.problem else None

    @property
    def measured_s(self) -> float:
        """Return how long the steps took that count."""
        return float(self.series.wall_ms.sum()) / 1e3 if self.series is not None else 0.0

    def without_effect(self, name: str) -> str | None:
        """Say that a remedy changed nothing, with its own reasons; None where it did."""
        one = self._applied(name)
        if one is None or one.effects:
            return None
        return f"it had no effect ({'; '.join(one.notes) or 'what it changes was not met'})"

    def notes(self, name: str) -> list[str]:
        """Return what a remedy says of itself."""
        one = self._applied(name)
        return one.notes if one is not None else []

    def _applied(self, name: str) -> AppliedFact | None:
        return next((one for one in self.applied if one.name == name), None)

    @property
    def rows(self) -> NDArray[np.float64]:
        """Return (wall ms, steps) by row."""
        assert self.series is not None
        return np.column_stack((self.series.wall_ms, self.series.count))


class _Losses(msgspec.Struct, frozen=True):
    losses: list[float] = []


@dataclass(kw_only=True)
class Trials:
    """Starts trials, one after the other, each in a folder of its own."""

    target: Target
    folder: Path
    length: Length
    tell: Tell
    made: list[Trial] = field(default_factory=list)
    epoch_steps: int = 0  # of the training loader; 0: not known

    def __post_init__(self) -> None:
        self.prepared = Prepared(folder=self.folder / FOLDER)

    def run(
        self,
        plan: Plan,
        what: str,
        *,
        seed: int = 0,
        windows: bool = False,
        limit_s: float | None = None,
    ) -> Trial:
        """Make one trial; raises SpeedprofError where the script cannot be started at all."""
        number = len(self.made) + 1
        folder = self.folder / f"{number:02d}-{what.replace(' ', '-')}"
        ended = trial_runs.run(
            self._order(plan, seed, windows=windows, folder=folder),
            folder,
            limit_s=self.length.limit_s if limit_s is None else limit_s,
            tell=lambda steps: self.tell(f"trial {number}, {what}: step {steps}"),
            prepared=self.prepared,
        )
        measured = series(folder, trials.REAL, self.warmup(plan))
        record = _record(folder)
        losses = record.last(FACT, _Losses) if record is not None else None
        trial = Trial(
            plan=plan,
            seed=seed,
            folder=folder,
            wall_s=ended.wall_s,
            series=measured,
            windows=windows,
            losses=losses.losses if losses is not None else [],
            applied=record.all("applied", AppliedFact) if record is not None else [],
            problem=ended.problem or _too_little(measured, record, self.warmup(plan)),
        )
        self.made.append(trial)
        return trial

    def warmup(self, plan: Plan) -> int:
        """Return the steps before a plan's own speed: what compiles or keeps begins slowly."""
        names = {one.name for one in plan}
        compiling = COMPILING if COMPILED in names else 0
        return WARMUP + compiling + (self.epoch_steps if KEEPING in names else 0)

    def _order(self, plan: Plan, seed: int, *, windows: bool, folder: Path) -> launcher.Order:
        return launcher.Order(
            target=self.target,
            parent=folder.parent,
            name=folder.name,
            warmup=self.warmup(plan),
            windows=windows,
            remedies=tuple({"name": one.name, "parameters": dict(one.parameters)} for one in plan),
            applied_by=MODULE if plan else "",
            trial={
                "kind": trials.REAL,
                "seed": seed,
                "steps": self.length.steps * (TRACED if windows else 1),
                "least_s": self.length.least_s,
                "most_s": self.length.most_s * (TRACED if windows else 1),
            },
        )


def _record(folder: Path) -> reading.Record | None:
    """Return the record of the process that came furthest."""
    records = [reading.read_record(path) for path in sorted(folder.glob("rank-*.rec"))]
    return max(records, key=lambda one: len(one.rows), default=None)


def _too_little(measured: Series | None, record: reading.Record | None, warmup: int) -> str | None:
    """Say that a script ended before enough of its steps could be measured."""
    if measured is None or record is None:
        return "no training step was seen"
    seen = measured.steps
    if len(measured.wall_ms) >= FEWEST:
        return None
    made = int(record.rows[:, COLUMN["count"]].sum())
    return (
        f"the script made {made} training steps, {seen} of them measured after "
        f"{warmup} of warm-up; a trial needs {FEWEST}: let it train longer"
    )
