"""Repeat a measurement within a time budget: warmed up, and with the spread it has.

Runs in the user's interpreter: the standard library alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

FEWEST, MOST = 3, 200
Plain = dict[str, Any]  # values of roofs.py on their way through JSON


def level(once: Callable[[], float], *, budget_s: float, warmups: int = 1) -> Plain:
    """Return the fields of `roofs.Level`; `once` does the work and returns its rate."""
    for _ in range(warmups):
        once()
    end = time.perf_counter() + budget_s
    seen: list[float] = []
    while len(seen) < FEWEST or (time.perf_counter() < end and len(seen) < MOST):
        seen.append(once())
    return summary(seen)


def summary(seen: list[float]) -> Plain:
    return {
        "best": max(seen),
        "median": statistics.median(seen),
        "worst": min(seen),
        "repeats": len(seen),
    }


def seconds(action: Callable[[], object]) -> float:
    """Return how long something takes; never zero, so that a rate is finite."""
    begin = time.perf_counter()
    action()
    return max(time.perf_counter() - begin, 1e-9)
