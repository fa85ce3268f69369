"""A recorded trace's time stamps as ns since its first event, in whichever unit they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NANOSECONDS = 1e17  # a time stamp above this would be the year 5138 in microseconds
LONGEST = 1e15  # us, thirty years (ns, eleven days): a longer time is damage


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When the events of one trace ran."""

    start: NDArray[np.int64]  # ns since the first event
    end: NDArray[np.int64]
    base: float  # the first event's time stamp, and
    unit_ns: float  # how long one of them is
    strays: int  # events so far from the others that they last no time here


def times(start: NDArray[np.float64], duration: NDArray[np.float64]) -> Times:
    """Place events by their finite time stamps and durations.

    One that is decades from the others is damage: it would leave them no digits to differ in.
    """
    usual = float(np.median(start))
    unit_ns = 1.0 if usual > NANOSECONDS else 1e3
    strays = 0
    if start.min() < usual - LONGEST or start.max() > usual + LONGEST:
        stray = np.abs(start - usual) > LONGEST
        strays = int(stray.sum())
        start = np.where(stray, start[~stray].min(), start)
        duration = np.where(stray, 0.0, duration)
    base = float(start.min())
    began = np.rint((start - base) * unit_ns).astype(np.int64)
    ended = began + np.rint(duration * unit_ns).astype(np.int64)
    return Times(start=began, end=ended, base=base, unit_ns=unit_ns, strays=strays)
