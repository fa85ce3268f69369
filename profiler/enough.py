"""When tracing may stop: every phase's share is known well enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler.errors import SpeedprofError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "enough"  # the file that the training processes look for before they open a window
FEWEST_WINDOWS = 3  # one window can be lucky
HALF_WIDTH = 0.02  # of the step: no verdict turns on two points


def tell_if_enough(folder: Path) -> bool:
    """Leave word in the run's folder once more windows would say nothing new.

    Call it after windows were reduced; raises OSError where the folder cannot be written.
    """
    from speedprof.profiler.attribution import load

    try:
        run = load(folder)
    except SpeedprofError:
        return False  # nothing to read yet
    if run.phases is None or run.windows < FEWEST_WINDOWS:
        return False
    if any(phase.high - phase.low > 2 * HALF_WIDTH for phase in run.phases.values()):
        return False
    (folder / NAME).touch()
    return True
