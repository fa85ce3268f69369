"""One recorded trace with our answer beside it, for `speedprof analyze --perfetto FILE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler import perfetto, trace_file, trace_steps, trace_windows
from speedprof.profiler.cells import cut
from speedprof.profiler.idle import look
from speedprof.profiler.trace_json import UnreadableTraceError
from speedprof.profiler.trace_tracks import Pieces, tracks
from speedprof.profiler.window_phases import explain
from speedprof.profiler.window_reading import DamagedWindowError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from speedprof.profiler.trace_file import Trace
    from speedprof.profiler.window_reading import Window


def export(source: Path, destination: Path) -> None:
    """Write the trace with tracks of its phases and steps.

    Raise UnreadableTraceError where it is none, SpeedprofError where it cannot be written.
    """
    trace = trace_file.read(source)
    try:
        pieces = list(_pieces(trace))
    except DamagedWindowError as error:
        raise UnreadableTraceError(
            f"{source} cannot be read: {error}; record a few whole training steps again"
        ) from error
    base, unit_ns = trace.base_us, trace.unit_ns
    del trace
    perfetto.export(source, destination, tracks(pieces, base=base, unit_ns=unit_ns))


def _pieces(trace: Trace) -> Iterator[Pieces]:
    steps = trace_steps.steps(trace)
    probed = trace_windows.probes(trace, steps)
    ends = trace_windows.crossed(trace_windows.gpu_activity(trace, steps), steps)
    for window in trace_windows.windows(trace, steps, probed, ends):
        yield _of_window(window)


def _of_window(window: Window) -> Pieces:
    explained = explain(window)
    start, end = int(explained.boundaries[0]), int(explained.boundaries[-1])
    cells = cut(explained, look(window, start, end, explained.operators))
    return Pieces(
        edges=cells.moments.edges,
        label=cells.label,
        boundaries=explained.boundaries,
        first_step=window.header.first_step,
    )
