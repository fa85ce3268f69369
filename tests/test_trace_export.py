"""What Perfetto shows of a recorded trace is what the report says of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from speedprof.profiler import perfetto, trace_export

TRACES = Path(__file__).parent.parent.parent / "shared" / "traces"


def exported(folder: Path, name: str) -> list[dict[str, Any]]:
    if not (TRACES / name).exists():
        pytest.skip(f"{TRACES} holds the recorded traces; it is not here")
    trace_export.export(TRACES / name, folder / "out.json.gz")
    made = json.loads(gzip.decompress((folder / "out.json.gz").read_bytes()))
    return made if isinstance(made, list) else made["traceEvents"]


def rows(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    mine = [event for event in events if event.get("pid") == perfetto.PROCESS]
    names = {e["tid"]: e["args"]["name"] for e in mine if e["name"] == "thread_name"}
    return {
        name: [event for event in mine if event["tid"] == tid and event["ph"] == "X"]
        for tid, name in names.items()
    }


@pytest.mark.parametrize(
    "name", ["resnet50_v100_workers0_bare_list.json.gz", "transformer_h100_launch_bound.json"]
)
def test_phases_cover_each_step_without_a_gap(tmp_path: Path, name: str) -> None:
    found = rows(exported(tmp_path, name))
    phases, steps = found["speedprof: phases"], found["speedprof: steps"]
    assert sum(event["dur"] for event in phases) == pytest.approx(
        sum(event["dur"] for event in steps), abs=0.5
    )
    for step in steps:
        end = step["ts"] + step["dur"]
        inside = [event["dur"] for event in phases if step["ts"] <= event["ts"] < end]
        assert sum(inside) == pytest.approx(step["dur"], abs=0.5)


def test_the_wait_for_data_is_where_the_trace_says_the_loader_is(tmp_path: Path) -> None:
    events = exported(tmp_path, "resnet50_v100_workers0.json.gz")
    asked = [
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if str(event.get("name", "")).startswith("enumerate(DataLoader)")
    ]
    waits = [e for e in rows(events)["speedprof: phases"] if e["name"] == "data loading"]
    assert waits
    for wait in waits:
        end = wait["ts"] + wait["dur"]
        assert any(a <= wait["ts"] + 0.5 and end <= b + 0.5 for a, b in asked)
