"""Run folders written by hand, through the real record and window formats."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

from window_cases import ZERO, Case, ns

from speedprof.profiler.record import COLUMN, STEP_COLUMNS, Writer

Row = dict[str, float]  # columns in ms; counts as they are
COUNTS = {"count", "batches", "samples", "backwards", "updates", "syncs", "flags"}
UNIX = 1_700_000_000


def row(start: float, wall: float, **columns: float) -> list[int]:
    """Return a step's row; times are ms, the device's are not measured unless given."""
    values: Row = {
        "start": start,
        "wall": wall,
        "count": 1,
        "device_wall": -1e-6,
        "device_input_wait": -1e-6,
        **columns,
    }
    found = [0] * len(STEP_COLUMNS)
    for name, value in values.items():
        found[COLUMN[name]] = int(value) if name in COUNTS else ns(value)
    found[COLUMN["start"]] += ZERO
    return found


def rows(walls: list[float], **columns: float | list[float]) -> list[list[int]]:
    """Return consecutive steps; a column is a number for all, or a list."""
    found, start = [], 0.0
    for index, wall in enumerate(walls):
        given = {n: v[index] if isinstance(v, list) else v for n, v in columns.items()}
        found.append(row(start, wall, **given))
        start += wall
    return found


def process(
    rank: int = 0, world_size: int = 1, pid: int = 42, **more: object
) -> dict[str, object]:
    return {
        "format": 1, "pid": pid, "host": "node", "rank": rank, "world_size": world_size,
        "local_rank": rank, "argv": ["/home/me/train.py"], "clock": [ZERO, UNIX * 10**9],
        "thread": 11, "python": "3.11", "torch": "2.15", "device": "cpu", "threads": 2,
        "flags": {}, **more,
    }  # fmt: skip


class Folder:
    """A run folder in the making."""

    def __init__(self, path: Path, *, warmup: int = 2) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.start(
            format=1,
            name="train",
            command=["train.py"],
            cwd="/home/me",
            started_at=UNIX - 3,
            version="0.1.0",
            options={"warmup": warmup},
        )

    def start(self, **content: object) -> Folder:
        (self.path / "run.json").write_text(json.dumps(content))
        return self

    def end(self, exit_status: int = 0, **more: object) -> Folder:
        content = {"exit_status": exit_status, "wall_s": 9.0, "notes": [], **more}
        (self.path / "end.json").write_text(json.dumps(content))
        return self

    def record(
        self,
        steps: list[list[int]],
        *facts: tuple[str, dict[str, object]],
        about: dict[str, object] | None = None,
    ) -> Path:
        said = about or process()
        path = self.path / f"rank-node-{said['pid']}.rec"
        writer = Writer(str(path))
        writer.fact("process", said)
        for name, content in facts:
            writer.fact(name, content)
        for step in steps:
            writer.rows(array("q", step))
        writer.close()
        return path

    def window(self, case: Case, *, pid: int = 42, index: int = 0) -> Folder:
        case.pid, case.index = pid, index
        case.write(self.path / f"window-node-{pid}-{index}.win")
        return self
