"""Whether trials show that a remedy makes steps shorter, or that more trials are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speedprof.profiler.comparison import ratio_of, student

WORTH = 1.03  # old / new; below, a remedy is not worth its line
MOST_ROUNDS = 3
# A whole interval beyond this is decided by one round: what differs from start to start of a
# script is a few per cent, and the whole plan is measured again in pairs at the end.
CLEAR = 1.3
HICCUP = 3.0  # times the usual step; half of that at the same step elsewhere would be the script's

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """Old step / new step with its 95 % interval; above 1 is faster."""

    ratio: float
    low: float
    high: float

    @property
    def inverse(self) -> Speedup:
        """Return the same, seen from the other side."""
        return Speedup(ratio=1 / self.ratio, low=1 / self.high, high=1 / self.low)

    def __str__(self) -> str:
        return f"{self.ratio:.2f}x [{self.low:.2f}, {self.high:.2f}]"


def speedup(old: Sequence[Rows], new: Sequence[Rows]) -> Speedup:
    """Compare trials without and with a remedy, the machine's hiccups left out.

    The interval holds the spread of steps within trials (see `profiler.comparison`) and, from
    two trials of each on, that between trials, whichever is wider: two starts of one script
    differ, too.
    """
    old, new = calm(old), calm(new)
    within = ratio_of(np.concatenate(new), np.concatenate(old))
    margin = math.log(within.high / within.ratio)
    margin = max(margin, _between(old, new))
    return Speedup(
        ratio=within.ratio,
        low=within.ratio * math.exp(-margin),
        high=within.ratio * math.exp(margin),
    )


def calm(trials: Sequence[Rows]) -> list[Rows]:
    """Return trials of one plan without steps that were long in a single one of them.

    What the script does at a step (evaluation, a new epoch) it does in each of its trials; what
    another program or the machine did happens once. A single trial stays as it is.
    """
    if len(trials) < 2:
        return list(trials)
    lengths = [rows[:, 0] / rows[:, 1] for rows in trials]
    usual = [float(np.median(ms)) for ms in lengths]
    return [
        rows[[not _hiccup(step, number, lengths, usual) for step in range(len(rows))]]
        for number, rows in enumerate(trials)
    ]


def _hiccup(step: int, number: int, lengths: Sequence[Rows], usual: Sequence[float]) -> bool:
    """Tell whether this step took very long, and neither it nor a neighbour did elsewhere."""
    if lengths[number][step] <= HICCUP * usual[number]:
        return False
    elsewhere = [
        float(ms[max(step - 1, 0) : step + 2].max()) / usual[other]
        for other, ms in enumerate(lengths)
        if other != number and step < len(ms)
    ]
    return bool(elsewhere) and max(elsewhere) < HICCUP / 2


def _between(old: Sequence[Rows], new: Sequence[Rows]) -> float:
    """Return half the interval of the log ratio from the trials' means (pooled t)."""
    groups = [np.log([_mean(rows) for rows in trials]) for trials in (old, new)]
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 2:
        return 0.0
    spread = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom
    error = math.sqrt(spread * sum(1 / len(group) for group in groups))
    return student(freedom) * error if freedom >= 3 else 4.303 * error


def _mean(rows: Rows) -> float:
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def decided(found: Speedup, rounds: int, *, most: int = MOST_ROUNDS) -> bool | None:
    """Return whether to keep it; None where another of at most so many rounds may tell.

    One round is enough for a gain beyond doubt, and for what made the script slower: a remedy
    that gains 3 % and looks like a loss is no great loss.
    """
    if found.low >= CLEAR or (found.low >= 1.0 and found.ratio >= WORTH and rounds >= 2):
        return True
    if found.high < WORTH or found.ratio < (1.0 if rounds < 2 else WORTH):
        return False
    return None if rounds < most else False


def doubted(found: Speedup, rounds: int, *, most: int = MOST_ROUNDS) -> bool | None:
    """Return whether to keep what no prediction speaks for: never after a single round."""
    verdict = decided(found, rounds, most=most)
    return None if verdict and rounds < 2 else verdict


def superfluous(found: Speedup, rounds: int) -> bool | None:
    """Return whether a plan is no slower without a remedy; None where a second round may tell."""
    if found.high < WORTH:
        return True
    return False if found.low >= 1.0 or rounds >= 2 else None
