"""Means, quantiles and intervals of steps; neighbours are alike, a row may stand for many."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.run import StepTimes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Batch means (Law & Kelton, "Simulation Modeling and Analysis", ch. 9): consecutive steps are
# alike, so the spread of the means of blocks tells the mean's error, not the spread of steps.
# 20 to 30 blocks are recommended there.
MOST_BLOCKS = 30
FEWEST_PER_BLOCK = 4  # as long as that leaves MIN_BLOCKS
MIN_BLOCKS = 5
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def t_975(degrees: int) -> float:
    """Return Student's t for a 95 % interval, within 0.5 % of the exact value."""
    if degrees < 1:
        return math.inf
    if degrees <= len(_T_975):
        return _T_975[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def blocks(count: int) -> NDArray[np.int64]:
    """Return the block of each of `count` consecutive rows."""
    number = min(MOST_BLOCKS, max(min(MIN_BLOCKS, count), count // FEWEST_PER_BLOCK))
    return np.arange(count) * number // max(count, 1)


def ratio_half_width(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> float:
    """Return half the 95 % interval of sum(numerator) / sum(denominator) over consecutive rows.

    The linearised ratio estimator over blocks (Cochran, "Sampling Techniques", 2.11); inf where
    there are too few rows to tell.
    """
    whole = denominator.sum()
    if len(numerator) < 2 or whole <= 0:
        return math.inf
    residual = numerator - numerator.sum() / whole * denominator
    sums = np.bincount(blocks(len(residual)), residual)
    error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / float(whole)
    return t_975(len(sums) - 1) * error


def quantiles(
    values: NDArray[np.float64], weights: NDArray[np.int64], levels: Sequence[float]
) -> list[float]:
    """Return, for each level, the value below which that part of the weight lies."""
    order = np.argsort(values)
    middle = np.cumsum(weights[order]) - 0.5 * weights[order]
    found: list[float] = np.interp(
        np.array(levels) * weights.sum(), middle, values[order]
    ).tolist()
    return found


def step_times(
    wall_ns: NDArray[np.int64], count: NDArray[np.int64], samples: NDArray[np.int64]
) -> StepTimes | None:
    """Sum up rows of steps; None where there is none."""
    steps = int(count.sum())
    if not steps:
        return None
    each = wall_ns / count / 1e6
    p10, median, p90 = quantiles(each, count, (0.1, 0.5, 0.9))
    mean = float(wall_ns.sum() / steps / 1e6)
    half = ratio_half_width(wall_ns / 1e6, count.astype(np.float64))
    seen = int(samples.sum())
    return StepTimes(
        count=steps,
        mean_ms=mean,
        median_ms=median,
        p10_ms=p10,
        p90_ms=p90,
        samples_per_s=seen / (float(wall_ns.sum()) / 1e9) if seen else None,
        low_ms=max(0.0, mean - half) if math.isfinite(half) else None,
        high_ms=mean + half if math.isfinite(half) else None,
    )
