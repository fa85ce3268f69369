"""A trace with our tracks in it: the original is all there, and a viewer can open it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from speedprof.profiler import perfetto
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.perfetto import Track, export

TRACES = Path(__file__).parent.parent.parent / "shared" / "traces"
TRACKS = [
    Track(
        name="phases",
        pieces=[(10.0, 14.5, "data loading"), (14.5, 20.0, "compute"), (20.0, 31.0, "host")],
    ),
    Track(name="steps", pieces=[(10.0, 20.0, "step 3"), (20.0, 31.0, "step 4")]),
]
EVENTS = [
    {"ph": "X", "cat": "cpu_op", "name": 'odd "}]{ \\ name\\\\', "ts": 1, "args": {"a": [1]}},
    {"ph": "X", "cat": "kernel", "name": "k", "ts": 4, "dur": 2, "pid": 0, "tid": 7},
]  # fmt: skip


def exported(folder: Path, text: bytes, *, name: str = "trace.json", tracks: Any = TRACKS) -> Any:
    source, destination = folder / name, folder / "out.json"
    source.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    export(source, destination, tracks)
    return json.loads(destination.read_bytes())


def theirs(trace: Any) -> list[Any]:
    events = trace if isinstance(trace, list) else trace["traceEvents"]
    return [event for event in events if event.get("pid") != perfetto.PROCESS]


def ours(trace: Any, track: str) -> list[Any]:
    events = trace if isinstance(trace, list) else trace["traceEvents"]
    mine = [event for event in events if event.get("pid") == perfetto.PROCESS]
    number = next(e["tid"] for e in mine if e.get("args", {}).get("name") == f"speedprof: {track}")
    return [event for event in mine if event["tid"] == number and event["ph"] == "X"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_every_event_and_every_other_member_is_kept(
    tmp_path: Path, name: str, indent: int | None
) -> None:
    original = {
        "schemaVersion": 1,
        "deep": {"traceEvents": "no: ["},
        "traceEvents": EVENTS,
        "z": [2],
    }
    made = exported(tmp_path, json.dumps(original, indent=indent).encode(), name=name)
    assert theirs(made) == EVENTS
    assert {key: made[key] for key in ("schemaVersion", "deep", "z")} == {
        key: original[key] for key in ("schemaVersion", "deep", "z")
    }


def test_phases_and_steps_are_tracks_of_their_own_and_cover_the_same_time(tmp_path: Path) -> None:
    made = exported(tmp_path, json.dumps({"traceEvents": EVENTS}).encode())
    phases, steps = ours(made, "phases"), ours(made, "steps")
    assert [event["name"] for event in phases] == ["data loading", "compute", "host"]
    assert sum(event["dur"] for event in phases) == sum(event["dur"] for event in steps) == 21.0


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"[ ]\n",
        b"  [\n" + json.dumps(EVENTS[0]).encode() + b"\n]",
        b"\xef\xbb\xbf[" + json.dumps(EVENTS[1]).encode() + b"]",
        b"[" + json.dumps(EVENTS[1]).encode(),  # Chrome's own traces may lack the bracket
        b"[" + json.dumps(EVENTS[1]).encode() + b",\n",
        b"[",
    ],
)
def test_a_bare_list_stays_one(tmp_path: Path, text: bytes) -> None:
    source, destination = tmp_path / "a.json", tmp_path / "b.json"
    source.write_bytes(text)
    export(source, destination, TRACKS)
    made = json.loads(destination.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    assert len(theirs(made)) == text.count(b'"ph"')
    assert len(ours(made, "steps")) == 2


def test_without_tracks_the_trace_still_opens(tmp_path: Path) -> None:
    made = exported(tmp_path, json.dumps({"traceEvents": EVENTS}).encode(), tracks=[])
    assert theirs(made) == EVENTS


@given(
    text=some.text(alphabet='ab"\\{}[],: ', max_size=12),
    size=some.integers(1, 40),
    left=some.floats(0.0, 1.0),
    bare=some.booleans(),
)
def test_a_trace_cut_off_anywhere_is_closed_after_its_last_whole_event(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int, left: float, bare: bool
) -> None:
    events = [{"ph": "X", "name": text, "args": {text: [n, {}]}} for n in range(4)]
    trace = events if bare else {"traceEvents": events, "more": [{"id": 0}, {"id": 1}]}
    whole = json.dumps(trace).encode()
    head = whole.index(b"[") + 1
    cut = whole[: head + round(left * (len(whole) - head))]
    folder = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perfetto, "BLOCK", max(size, 8) * 8)
        made = exported(folder, cut)
    kept = theirs(made)
    assert kept == events[: len(kept)]
    assert len(kept) == sum(cut.count(json.dumps(event).encode()) for event in events)


def test_a_packed_trace_that_is_cut_off_can_be_opened(tmp_path: Path) -> None:
    source, destination = tmp_path / "cut.json.gz", tmp_path / "out.json.gz"
    many = {"traceEvents": EVENTS * 5000}
    packed = gzip.compress(json.dumps(many).encode(), compresslevel=0)
    source.write_bytes(packed[: len(packed) // 2])
    export(source, destination, TRACKS)
    made = json.loads(gzip.decompress(destination.read_bytes()))
    assert 4000 < len(theirs(made)) < 6000


@pytest.mark.parametrize(
    "text", [b"", b"hello", b"{}", b'{"events": []}', b'{"a": "traceEvents: ["']
)
def test_what_is_no_trace_is_refused_in_one_sentence(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(SpeedprofError, match="no trace"):
        exported(tmp_path, text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.json"]


def test_the_trace_itself_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "trace.json"
    source.write_bytes(b"[]")
    with pytest.raises(SpeedprofError, match="the trace itself"):
        export(source, source, TRACKS)
    assert source.read_bytes() == b"[]"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    source = tmp_path / "trace.json"
    source.write_bytes(b"[]")
    with pytest.raises(SpeedprofError, match="cannot write"):
        export(source, tmp_path / "none" / "out.json", TRACKS)


@pytest.mark.parametrize("name", ["bert_small_h100.json.gz", "nccl_metadata_a100.json.gz"])
def test_recorded_traces_keep_every_event(tmp_path: Path, name: str) -> None:
    if not (TRACES / name).exists():
        pytest.skip(f"{TRACES} holds the recorded traces; it is not here")
    export(TRACES / name, tmp_path / "out.json", TRACKS)
    original = json.loads(gzip.decompress((TRACES / name).read_bytes()))
    assert theirs(json.loads((tmp_path / "out.json").read_bytes())) == theirs(original)
