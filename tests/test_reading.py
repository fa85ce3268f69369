"""Records that are damaged in any way: what is whole is used, the rest is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import Folder, process, rows

from speedprof.profiler import attribution, record_facts
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.reading import json_lines, json_object, read_record
from speedprof.profiler.record import COLUMN

NOTE = ("note", {"text": "probe 'copy' was switched off"})


def small(folder: Path) -> Path:
    return Folder(folder).record(rows([10.0, 11.0, 12.0]), NOTE)


def test_a_record_cut_off_at_any_byte_keeps_every_frame_before_it(tmp_path: Path):
    path = small(tmp_path)
    data = path.read_bytes()
    seen = []
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        record = read_record(path)
        seen.append(len(record.rows))
        attribution.load(tmp_path)
        assert bool(record.damage) == (length not in _ends(data))
    assert seen == sorted(seen)
    assert seen[-1] == 3


def _ends(data: bytes) -> set[int]:
    starts = {at for at in range(len(data)) if data.startswith(b"SPR1", at)}
    return starts | {len(data)}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=12))
def test_a_record_overwritten_anywhere_loses_no_more_than_the_frames_it_hits(
    tmp_path_factory, at, garbage
):
    path = small(tmp_path_factory.mktemp("run"))
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(garbage)] = garbage[: len(data) - at]
    path.write_bytes(bytes(data))
    assert len(read_record(path).rows) >= 1
    attribution.load(path.parent)


@given(st.binary(max_size=300))
def test_garbage_is_no_record_and_no_error(tmp_path_factory, garbage):
    path = tmp_path_factory.mktemp("run") / "rank-node-1.rec"
    path.write_bytes(garbage)
    assert len(read_record(path).rows) == 0


def test_rows_that_make_no_sense_are_counted_and_left_out(tmp_path: Path):
    steps = rows([10.0, 10.0, 10.0, 10.0])
    steps[1][COLUMN["wall"]] = 0
    steps[2][COLUMN["backward"]] = -5
    record = read_record(Folder(tmp_path).record(steps))
    assert len(record.rows) == 2
    assert record.damage == ["2 step rows in rank-node-42.rec make no sense"]


def test_a_fact_of_another_shape_is_counted_and_left_out(tmp_path: Path):
    wrong = ("loader", {"number": "many"})
    record = read_record(Folder(tmp_path).record(rows([10.0]), wrong, ("loader", {"number": 3})))
    assert [fact.number for fact in record.all("loader", record_facts.LoaderFact)] == [3]
    assert record.damage == ["1 facts (loader) in rank-node-42.rec were not understood"]


def test_a_record_of_a_newer_version_is_refused_with_the_remedy(tmp_path: Path):
    path = Folder(tmp_path).record(rows([10.0]), about=process(format=2))
    with pytest.raises(SpeedprofError, match=r"newer speedprof.*pip install -U speedprof"):
        read_record(path)


def test_lines_that_are_no_objects_are_counted(tmp_path: Path):
    path = tmp_path / "worker-node-1.jsonl"
    path.write_bytes(b'{"a": 1}\n\n[1]\n{"a": \xff}\n{"a": 2}\n{"a"')
    assert json_lines(path) == ([{"a": 1}, {"a": 2}], 3)
    assert json_lines(tmp_path / "none") == ([], 0)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0"])
def test_a_json_file_that_is_no_object_is_none(tmp_path: Path, text: str):
    path = tmp_path / "end.json"
    path.write_text(text)
    assert json_object(path) is None
    path.write_text(json.dumps({"exit_status": 1}))
    assert json_object(path) == {"exit_status": 1}
