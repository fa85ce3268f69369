"""Whether one run's steps take longer than another's: the ratio of mean step times, its interval.

Steps of one run are not independent (epochs, checkpoints, a warming machine), so the spread of a
run's mean is taken from the means of all its blocks of consecutive steps, overlapping ones too:
overlapping batch means (Meketon and Schmeiser, Winter Simulation Conference 1984), which is the
variance that the circular block bootstrap converges to. The block length is chosen from the series
itself, by Politis and White (Econometric Reviews 23, 2004) as corrected by Patton, Politis and
White (Econometric Reviews 28, 2009). Two runs are compared on the log scale by Welch's t interval.
The interval holds what varies within the two runs; what varies between two starts of the same
script comes on top.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speedprof.profiler import run_folder
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.record import (
    COLUMN,
    DISTURBED,
    STEP_COLUMNS,
    STEPS,
    TRACED,
    frames,
)

FEWEST = 16  # rows; below, block lengths are guesswork
FEWEST_RECORDED = 4  # of traces, which hold few; Student's t is good to 1 % from there
MOST_CELLS = 4_096  # longer series are summed up to so many: enough for any block length
LEVEL = 0.95
DEFAULT_WARMUP = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """New against old; a ratio above 1 means that the new run's steps take longer."""

    ratio: float
    low: float  # 95 % interval
    high: float
    old_ms: float  # mean step
    new_ms: float
    old_steps: int
    new_steps: int

    def slower_by_more_than(self, fraction: float) -> bool:
        """Return whether the whole interval lies beyond 1 + fraction."""
        return self.low > 1 + fraction


def compare(old: Path, new: Path) -> Comparison:
    """Compare two run folders; raises SpeedprofError where one has too few steps to tell."""
    if _is_recorded(old) != _is_recorded(new):
        raise SpeedprofError(
            f"of {old.name} and {new.name} one is a recorded trace, whose steps hold what "
            "recording them cost; compare traces with traces"
        )
    return ratio_of(_enough(old), _enough(new))


def ratio_of(old: Floats, new: Floats) -> Comparison:
    """Compare two series of rows (wall ms, steps in the row), each in its order."""
    old_ms, old_variance, old_freedom = _mean(old)
    new_ms, new_variance, new_freedom = _mean(new)
    variance = old_variance + new_variance
    parts = old_variance**2 / old_freedom + new_variance**2 / new_freedom
    margin = math.sqrt(variance) * student(variance**2 / parts) if parts else 0.0
    ratio = new_ms / old_ms
    return Comparison(
        ratio=ratio,
        low=ratio * math.exp(-margin),
        high=ratio * math.exp(margin),
        old_ms=old_ms,
        new_ms=new_ms,
        old_steps=int(old[:, 1].sum()),
        new_steps=int(new[:, 1].sum()),
    )


def _mean(rows: Floats) -> tuple[float, float, float]:
    """Return the mean step, ms, the variance of its logarithm, and that variance's freedom."""
    cells = _cells(rows)
    mean = float(cells[:, 0].sum() / cells[:, 1].sum())
    series = (cells[:, 0] / mean - cells[:, 1]) / cells[:, 1].mean()  # relative, 0 on average
    count, length = len(series), block_length(series)
    around = np.concatenate([series, series[: length - 1]])
    sums = np.concatenate([[0.0], around.cumsum()])
    of_blocks = (sums[length:] - sums[:-length]) / length
    blocks = count / length
    variance = float(of_blocks @ of_blocks) / count / (blocks - 1)
    freedom = 1.5 if length > 1 else 1.0  # of overlapping blocks: Meketon and Schmeiser
    return mean, variance, freedom * (blocks - 1)


def student(freedom: float) -> float:
    """Return the two-sided 95 % quantile of Student's t, good to 1 % from 3 degrees of freedom on.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    x = NormalDist().inv_cdf((1 + LEVEL) / 2)
    first = (x**3 + x) / 4
    second = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    return x + first / freedom + second / freedom**2 + third / freedom**3


def _cells(rows: Floats) -> Floats:
    """Sum up neighbours until there are at most MOST_CELLS rows."""
    size = -(-len(rows) // MOST_CELLS)
    return np.add.reduceat(rows, np.arange(0, len(rows), size), axis=0)


def block_length(series: Floats) -> int:
    """Return the best block length for the mean of a series, at most a sixth of it.

    Patton, Politis and White (2009), circular case: length = (2 G^2 / D)^(1/3) n^(1/3), with
    G = sum over k of w(k) |k| R(k), D = 4/3 (sum over k of w(k) R(k))^2, R the autocovariance,
    w the flat-top window of width 2m, m the lag beyond which no autocorrelation stands out.
    """
    count = len(series)
    longest = max(1, count // 6)
    centred = series - series.mean()
    variance = float(centred @ centred) / count
    if variance == 0:
        return 1
    lags = min(count // 2, int(np.ceil(np.sqrt(count))) + 5)
    covariance = np.array([centred[k:] @ centred[: count - k] for k in range(lags + 1)]) / count
    width = min(2 * _last_standing_out(covariance / variance, count), lags)
    lag = np.arange(1, width + 1)
    window = np.minimum(1.0, 2 * (1 - lag / (width or 1)))
    weighted = window * covariance[1 : width + 1]
    g = 2 * float(weighted @ lag)
    d = 4 / 3 * (float(covariance[0]) + 2 * float(weighted.sum())) ** 2
    if d <= 0:
        return longest
    return int(np.clip(np.ceil((2 * g * g / d * count) ** (1 / 3)), 1, longest))


def _last_standing_out(correlation: Floats, count: int) -> int:
    """Return the lag after which K_N autocorrelations in a row are within noise."""
    noise = 2 * np.sqrt(np.log10(count) / count)
    quiet_for = max(5, int(np.sqrt(np.log10(count))))
    loud = np.flatnonzero(np.abs(correlation[1:]) >= noise) + 1
    last = 0
    for lag in loud.tolist():
        if lag - last > quiet_for:
            break
        last = lag
    return last


def _enough(folder: Path) -> Floats:
    rows, recorded = steps_of(folder), _is_recorded(folder)
    count = int(rows[:, 1].sum())
    if recorded and len(rows) < FEWEST_RECORDED:
        raise SpeedprofError(
            f"{folder.name} has {count} recorded steps, too few to compare; record "
            f"{FEWEST_RECORDED} or more, after warm-up"
        )
    if not recorded and len(rows) < FEWEST:
        raise SpeedprofError(
            f"{folder.name} has {count} untraced steps after warm-up, too few to compare; run it "
            f"for {FEWEST} or more"
        )
    return rows


def steps_of(folder: Path) -> Floats:
    """Return untraced steps after warm-up, of the rank with most: rows (wall ms, steps).

    Of a recorded trace, all steps: each of them was traced.
    """
    warmup, unclean = _warmup(folder), DISTURBED
    if not _is_recorded(folder):
        unclean |= TRACED
    of_ranks = [_rows(path, warmup, unclean) for path in sorted(folder.glob("rank-*.rec"))]
    return max(of_ranks, key=lambda rows: rows[:, 1].sum(), default=np.zeros((0, 2)))


def _is_recorded(folder: Path) -> bool:
    return _start(folder).get("kind") == "trace"


def _warmup(folder: Path) -> int:
    options = _start(folder).get("options")
    try:
        return int(options["warmup"]) if isinstance(options, dict) else DEFAULT_WARMUP
    except (ValueError, KeyError, TypeError):
        return DEFAULT_WARMUP


def _start(folder: Path) -> dict[str, Any]:
    try:
        start = json.loads((folder / run_folder.START).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return start if isinstance(start, dict) else {}


def _rows(path: Path, warmup: int, unclean: int) -> Floats:
    width = len(STEP_COLUMNS)
    blocks = [
        np.frombuffer(payload[: len(payload) // (8 * width) * 8 * width], "<i8").reshape(-1, width)
        for kind, payload, _ in frames(path.read_bytes())
        if kind == STEPS
    ]
    table = np.concatenate(blocks) if blocks else np.zeros((0, width), np.int64)
    count = table[:, COLUMN["count"]]
    after = count.cumsum() > warmup
    clean = (table[:, COLUMN["flags"]] & unclean) == 0
    kept = table[after & clean & (count > 0)]
    return np.stack([kept[:, COLUMN["wall"]] / 1e6, kept[:, COLUMN["count"]]], axis=1)
