"""Trace files as they come: whole, cut off, damaged, hostile; bounded memory, one sentence."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speedprof.profiler import trace_file, trace_json
from speedprof.profiler.trace_json import TraceJson, UnreadableTraceError


def event(number: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "ph": "X", "cat": "cpu_op", "name": f"aten::op{number % 7}", "pid": 1, "tid": 1,
        "ts": 1000.5 + 10 * number, "dur": 4.25, "args": {"External id": number},
    }  # fmt: skip
    return {**plain, **changes}


def events_of(path: Path) -> tuple[list[trace_json.Event], TraceJson]:
    source = TraceJson(path)
    return [one for block in source.blocks() for one in block], source


def read_or_refused(path: Path) -> tuple[trace_file.Trace | None, str]:
    """Return the trace, or the sentence that refuses it; anything else is raised."""
    try:
        return trace_file.read(path), ""
    except UnreadableTraceError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return None, sentence


def written(tmp_path: Path, content: bytes, name: str = "t.json") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def as_object(events: list[Any], **others: Any) -> bytes:
    return json.dumps({"schemaVersion": 1, "traceEvents": events, **others}).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("object", lambda e: as_object(e, traceName="x")),
        ("object, events last", lambda e: json.dumps({"a": {"b": 1}, "traceEvents": e}).encode()),
        ("bare list", lambda e: json.dumps(e).encode()),
        ("indented", lambda e: json.dumps({"traceEvents": e}, indent=4).encode()),
        ("no spaces", lambda e: json.dumps(e, separators=(",", ":")).encode()),
        ("packed", lambda e: gzip.compress(as_object(e))),
        ("byte order mark", lambda e: b"\xef\xbb\xbf\n " + as_object(e)),
        ("carriage returns", lambda e: json.dumps(e, indent=1).replace("\n", "\r\n").encode()),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 500])
def test_every_shape_of_file_gives_the_same_events(
    tmp_path: Path, name: str, content: Any, count: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trace_json, "BLOCK", 1000)
    found, source = events_of(written(tmp_path, content([event(n) for n in range(count)])))
    assert [one.args.external for one in found if one.args] == list(range(count)), name
    assert (source.damaged, source.cut_off) == (0, None)


def test_what_the_object_says_beside_its_events_is_kept(tmp_path: Path):
    content = b'{"distributedInfo": {"rank": 3}, "traceEvents": [], "traceName": "n"}'
    found, source = events_of(written(tmp_path, content))
    assert not found
    assert source.metadata["distributedInfo"] == {"rank": 3}
    assert source.metadata["traceName"] == "n"


def test_braces_in_strings_and_arguments_do_not_cut_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trace_json, "BLOCK", 300)
    odd = {"Input Dims": [[1], []], "list": [{"a": 1}, {"b": [{}, {}]}], "text": '}, {"ph": "X'}
    found, source = events_of(
        written(tmp_path, as_object([event(n, name='f<{}>},{"', args=odd) for n in range(200)]))
    )
    assert len(found) == 200
    assert source.damaged == 0


@pytest.mark.parametrize(
    "broken",
    [
        '{"ph": "X", "cat": "cpu_op", "name": "a", "ts": NaN, "dur": 1}',
        '{"ph": "X", "cat": "cpu_op", "name": "a", "ts": 1e999, "dur": 1}',
        '{"ph": "X", "cat": "cpu_op", "name": "a", "ts": 5, "dur": -3}',
        '{"ph": "X", "cat": "cpu_op", "name": "a", "ts": 5, "dur": 1e30}',
        '{"ph": "X", "cat": "cpu_op", "name": "a", "ts": "soon", "dur": 1}',
        '{"ph": "X", "cat": "cpu_op", "name": "C:\\Users\\x", "ts": 5, "dur": 1}',
        "17",
        '["ph", "X"]',
        "[" * 5000 + "]" * 5000,
    ],
)
def test_one_event_that_makes_no_sense_is_counted_and_the_others_kept(tmp_path: Path, broken: str):
    good = [json.dumps(event(n)) for n in range(20)]
    text = '{"traceEvents": [' + ", ".join([*good[:10], broken, *good[10:]]) + "]}"
    trace = trace_file.read(written(tmp_path, text.encode()))
    assert len(trace) == 20
    assert any("1 events of t.json make no sense" in note for note in trace.damage), trace.damage


@pytest.mark.parametrize(
    ("field", "value"),
    [("tid", "stream 7"), ("tid", 7.5), ("pid", None), ("ts", "1000.5"), ("name", None),
     ("args", None), ("args", []), ("args", {"stream": "7", "correlation": 2**70}),
     ("args", {"bytes": True, "device": -1, "External id": "x"})],
)  # fmt: skip
def test_a_field_of_another_type_loses_no_event(tmp_path: Path, field: str, value: Any):
    content = as_object([event(0), event(1, **{field: value}), event(2)])
    assert len(trace_file.read(written(tmp_path, content))) == 3


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 20_000), packed=st.booleans(), block=st.sampled_from([64, 999, 8 << 20]))
def test_a_file_cut_anywhere_gives_what_is_whole_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, cut: int, packed: bool, block: int
):
    whole = as_object([event(n) for n in range(100)], traceName="x")
    content = gzip.compress(whole) if packed else whole
    path = written(tmp_path_factory.mktemp("cut"), content[: cut % len(content)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_json, "BLOCK", block)
        trace, refusal = read_or_refused(path)
    assert (trace is None) == (str(path) in refusal)
    if trace is not None:
        assert 1 <= len(trace) <= 100
        assert len(trace) == 100 or any("not whole" in note for note in trace.damage)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 30), changes=st.integers(1, 30))
def test_garbage_anywhere_never_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, seed: int, changes: int
):
    draw = random.Random(seed)
    content = bytearray(as_object([event(n) for n in range(30)], distributedInfo={"rank": 1}))
    for _ in range(changes):
        at = draw.randrange(len(content))
        content[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
    path = written(tmp_path_factory.mktemp("garbage"), bytes(content))
    trace, refusal = read_or_refused(path)
    assert (trace is None) == bool(refusal)
    assert trace is None or len(trace) <= 31


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"not json at all", "it is not JSON"),
        (b'{"a": 1}', "it has no traceEvents"),
        (b'{"traceEvents": []}', "holds no events of a training"),
        (b"[]", "holds no events of a training"),
        (b"\x1f\x8b\x08\x00garbage", "gzip data is damaged"),
        (b'"traceEvents"', "it is not JSON"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_sentence(tmp_path: Path, content: bytes, said: str):
    with pytest.raises(UnreadableTraceError, match=said) as caught:
        trace_file.read(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path):
    for path in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(UnreadableTraceError, match="cannot read"):
            trace_file.read(path)


@pytest.mark.parametrize("filling", [b" ", b"[", b'{"a":', b"1,", b'"x", '])
def test_a_gzip_bomb_takes_bounded_memory(
    tmp_path: Path, filling: bytes, monkeypatch: pytest.MonkeyPatch
):
    """A few kilobytes that unpack to 64 MiB of no events: told within a few megabytes."""
    import tracemalloc

    monkeypatch.setattr(trace_json, "BLOCK", 1 << 18)
    monkeypatch.setattr(trace_json, "MOST_UNCUT", 1 << 20)
    path = tmp_path / "bomb.json.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b'{"traceEvents": [')
        for _ in range(64):
            file.write(filling * ((1 << 20) // len(filling)))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableTraceError):
            trace_file.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20
