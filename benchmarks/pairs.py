"""Interleaved pairs on a machine that others use, too.

Who goes first, what the middle is, how sure we are.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DRAWS = 2_000  # bootstrap draws: the ends of a 95 % interval are then 50 draws from the extremes
SEED = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A median over rounds with its 95 % percentile bootstrap (Efron and Tibshirani 1993)."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        digits = 3 if abs(self.median) < 10 else 1
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}..{self.high:.{digits}f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of independent rounds; raises ValueError where there is none."""
    if not values:
        raise ValueError("no rounds, so no median")
    draw = random.Random(SEED)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(DRAWS))
    tail = DRAWS // 40
    return Estimate(
        median=statistics.median(values),
        low=medians[tail],
        high=medians[-tail - 1],
        rounds=len(values),
    )


def interleaved(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield (round, name): A B, B A, A B ..., so that a drift of the machine favours nobody."""
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            yield number, name


def machine() -> dict[str, Any]:
    """Describe where and when this was measured."""
    import torch

    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), None)


def write(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """Write one benchmark's results with its machine."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    whole = {"format": 1, "machine": machine(), **content}
    path.write_text(json.dumps(whole, indent=1, default=plain) + "\n", encoding="utf-8")
    return path


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: _rounded(v) for k, v in dataclasses.asdict(value).items()}
    return str(value)


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
