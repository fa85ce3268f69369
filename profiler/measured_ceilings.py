"""From the records of trials to ceilings: rates, and ratios of step times with their intervals.

The interval of a ratio comes from the spread of steps within the trials (`comparison`), and is
widened until it holds the ratio to every single real trial, so that drift of the machine shows.
With batches from memory on a CPU, the time in which the trial itself copied the batch is taken
off: nothing else went on meanwhile. On a GPU it may hide behind the device's work and stays.
Evaluation and checkpoints between the steps count as they do in the real trials, on average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speedprof.profiler import reading
from speedprof.profiler.comparison import ratio_of
from speedprof.profiler.record import COLUMN, DISTURBED, TRACED
from speedprof.profiler.run_whatif import MeasuredCeiling, Rate
from speedprof.profiler.statistics import ratio_half_width
from speedprof.profiler.trials import LOADER, REAL

FEWEST = 8  # steps that a mean and its interval can rest on
SETTLING = 2  # steps after a trial's change has begun

OUTSIDE = ("evaluation", "checkpoint", "between")  # columns of the record

Floats = NDArray[np.float64]
SAMPLES, BATCHES = "samples", "batches"


@dataclass(frozen=True, kw_only=True)
class Series:
    """The measured steps of one trial (draws, of the loader alone), in one process."""

    wall_ms: Floats
    count: Floats  # steps in a row
    samples: Floats
    batches: Floats
    handout_ms: Floats  # waited for a loader
    outside_ms: Floats | None = None  # evaluation, checkpoints and what else lies between steps
    device: str = "cpu"
    fact: dict[str, Any] = field(default_factory=dict)  # what the trial said of itself
    damage: int = 0

    @property
    def steps(self) -> int:
        return int(self.count.sum())

    @property
    def step_ms(self) -> float:
        return float(self.wall_ms.sum() / max(self.count.sum(), 1))

    @property
    def outside_a_step_ms(self) -> float:
        """Return the mean of what lies between steps; 0 for the loader alone."""
        if self.outside_ms is None:
            return 0.0
        return float(self.outside_ms.sum() / max(self.count.sum(), 1))

    def without_handout(self) -> Series:
        """Return the steps as they would be without the copies of batches."""
        return replace(self, wall_ms=np.maximum(self.wall_ms - self.handout_ms, 0.0))

    def with_outside(self, each_ms: float) -> Series:
        """Return the steps with so much between them, the same after each.

        What comes every thousandth step may fall into one trial and not into another.
        """
        if self.outside_ms is None:
            return self
        inside = np.maximum(self.wall_ms - self.outside_ms, 0.0)
        return replace(self, wall_ms=inside + each_ms * self.count)


def series(folder: Path, kind: str, warmup: int) -> Series | None:
    """Read a trial: the process that came furthest, or whose loader is the slowest.

    None where no process trained, or where the trial's change never took place.
    """
    records = [reading.read_record(path) for path in sorted(folder.glob("rank-*.rec"))]
    if kind == LOADER:
        drawn = [_draws(record) for record in records]
        found = [one for one in drawn if one is not None]
        return max(found, key=lambda one: one.step_ms, default=None)
    stepped = [_steps(record, kind, warmup) for record in records]
    known = [one for one in stepped if one is not None]
    return max(known, key=lambda one: one.steps, default=None)


def refusal(folder: Path) -> str | None:
    """Return why a trial refused to go on, None where it did not."""
    for path in sorted(folder.glob("rank-*.rec")):
        said = _said(reading.read_record(path), "refused")
        if said is not None:
            return str(said.get("why"))
    return None


def _steps(record: reading.Record, kind: str, warmup: int) -> Series | None:
    fact = _said(record, kind)
    if kind != REAL and fact is None:
        return None
    rows = record.rows
    if not len(rows):
        return None
    count = rows[:, COLUMN["count"]]
    kept = (count.cumsum() > warmup) & (rows[:, COLUMN["flags"]] & (DISTURBED | TRACED) == 0)
    if fact is not None:
        since = rows[:, COLUMN["start"]] >= int(fact.get("at_perf_ns", 0))
        kept &= since & (since.cumsum() > SETTLING)
    rows = rows[kept]
    waited = rows[:, COLUMN["input_wait"]] + rows[:, COLUMN["input_start"]]
    outside = rows[:, [COLUMN[name] for name in OUTSIDE]].sum(axis=1)
    return Series(
        wall_ms=rows[:, COLUMN["wall"]] / 1e6,
        count=rows[:, COLUMN["count"]].astype(np.float64),
        samples=rows[:, COLUMN["samples"]].astype(np.float64),
        batches=rows[:, COLUMN["batches"]].astype(np.float64),
        handout_ms=waited / 1e6,
        outside_ms=outside / 1e6,
        device=_device(record),
        fact=fact or {},
    )


def _draws(record: reading.Record) -> Series | None:
    fact = _said(record, LOADER)
    if fact is None:
        return None
    spent, samples = _numbers(fact.get("ns")), _numbers(fact.get("samples"))
    if len(spent) != len(samples):
        return None
    ones = np.ones(len(spent))
    return Series(
        wall_ms=spent / 1e6,
        count=ones,
        samples=samples,
        batches=ones,
        handout_ms=np.zeros(len(spent)),
        fact=fact,
    )


def _numbers(value: object) -> Floats:
    if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
        return np.zeros(0)
    return np.array(value, np.float64)


def _said(record: reading.Record, kind: str) -> dict[str, Any] | None:
    """Return what a trial said when its change took place."""
    said = [fact for fact in record.facts.get("trial", ()) if fact.get("kind") == kind]
    return said[-1] if said else None


def _device(record: reading.Record) -> str:
    devices = [fact.get("device") for fact in record.facts.get("device", ())]
    devices += [fact.get("device") for fact in record.facts.get("process", ())]
    return next((str(one) for one in devices if one), "cpu")


def joined(parts: Sequence[Series]) -> Series:
    """Return the steps of several trials of one kind in a row."""
    outside = [part.outside_ms for part in parts if part.outside_ms is not None]
    return replace(
        parts[0],
        wall_ms=np.concatenate([part.wall_ms for part in parts]),
        count=np.concatenate([part.count for part in parts]),
        samples=np.concatenate([part.samples for part in parts]),
        batches=np.concatenate([part.batches for part in parts]),
        handout_ms=np.concatenate([part.handout_ms for part in parts]),
        outside_ms=np.concatenate(outside) if len(outside) == len(parts) else None,
    )


def rate(steps: Series, unit: str) -> Rate | None:
    """Return what went through in a second; None where nothing was counted."""
    amount = steps.samples if unit == SAMPLES else steps.batches
    if amount.sum() <= 0 or steps.wall_ms.sum() <= 0:
        return None
    each = float(steps.wall_ms.sum() / amount.sum())  # ms
    half = ratio_half_width(steps.wall_ms, amount)
    return Rate(
        per_s=1e3 / each,
        unit=unit,
        low=1e3 / (each + half) if math.isfinite(half) else None,
        high=1e3 / (each - half) if half < each else None,
    )


def unit_of(parts: Sequence[Series]) -> str:
    """Count samples where every trial could, else batches."""
    return SAMPLES if all(part.samples.sum() > 0 for part in parts) else BATCHES


def ceiling(kind: str, real: Sequence[Series], trial: Sequence[Series]) -> MeasuredCeiling:
    """Compare real trials with those without one cost; each has FEWEST rows or more."""
    changed = joined(trial)
    compared = ratio_of(_rows(joined(real)), _rows(changed))
    each = [old.step_ms / new.step_ms for old in real for new in trial]
    return MeasuredCeiling(
        kind=kind,
        speedup=1 / compared.ratio,
        low=min(1 / compared.high, *each),
        high=max(1 / compared.low, *each),
        step_ms=compared.new_ms,
        real_ms=compared.old_ms,
    )


def _rows(steps: Series) -> Floats:
    return np.stack([steps.wall_ms, steps.count], axis=1)
