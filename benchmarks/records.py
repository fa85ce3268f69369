"""What a record says of its steps: which of them a window traced, or its opening disturbed."""

from __future__ import annotations

import json
from pathlib import Path

from speedprof.profiler import record

Row = tuple[int, ...]
Stretch = tuple[int, int]  # from, until (perf_counter ns)


def rows(path: Path) -> list[Row]:
    """Return the step rows of one record."""
    found: list[Row] = []
    width = len(record.STEP_COLUMNS)
    for kind, payload, _skipped in record.frames(path.read_bytes()):
        if kind == record.STEPS:
            values = memoryview(payload).cast("q").tolist()
            found += [tuple(values[i : i + width]) for i in range(0, len(values), width)]
    return found


def of_first_rank(folder: Path) -> Path | None:
    """Return the record of rank 0 somewhere below a folder, None where there is none."""
    for path in folder.glob("**/rank-*.rec"):
        kind, payload, _ = next(record.frames(path.read_bytes()))
        if kind == record.FACT and json.loads(payload).get("rank") == 0:
            return path
    return None


def stretches(found: list[Row]) -> list[Stretch]:
    """Return the stretches of consecutive steps that a window traced or disturbed."""
    start, wall, flags = (record.COLUMN[name] for name in ("start", "wall", "flags"))
    joined: list[Stretch] = []
    for row in found:
        if not row[flags] & (record.TRACED | record.DISTURBED):
            continue
        begin, end = row[start], row[start] + row[wall]
        if joined and begin <= joined[-1][1]:
            begin = joined.pop()[0]
        joined.append((begin, end))
    return joined


def inside(step: Stretch, stretch: Stretch) -> bool:
    """Tell whether a step is one of a stretch's; a script sees its ends a little earlier."""
    return stretch[0] < sum(step) / 2 < stretch[1]


def cost_ms(steps: list[Stretch], stretch: Stretch, plain_ns: float) -> float:
    """Return by how much the steps of a stretch took longer than as many plain ones."""
    lengths = [end - begin for begin, end in steps if inside((begin, end), stretch)]
    return (sum(lengths) - plain_ns * len(lengths)) / 1e6
