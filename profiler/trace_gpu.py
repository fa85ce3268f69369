"""The GPU from its first activity to its last: the stretch that other tools' figures are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.device_use import DeviceUse, device_use
from speedprof.profiler.intervals import NOTHING, spans
from speedprof.profiler.window_file import DRIVER, RUNTIME

if TYPE_CHECKING:
    from speedprof.profiler.device_activity import DeviceActivity
    from speedprof.profiler.intervals import Spans
    from speedprof.profiler.trace_file import Trace


def whole_use(
    trace: Trace, activity: DeviceActivity | None, probed: dict[str, Spans]
) -> DeviceUse | None:
    """Return the use of the GPU in the whole trace, ns; None where it did nothing."""
    if activity is None or not len(activity):
        return None
    stretch = np.array([activity.start.min(), activity.end.max()], np.int64)
    called = trace.of_type(RUNTIME, DRIVER)
    (used,) = device_use(
        activity,
        trace.names,
        probed.get("input_wait", NOTHING),
        stretch,
        calls=spans(trace.event["start"][called], trace.event["end"][called]),
    )
    return used
