"""Window files that are damaged in any way, and the clock that ties events to steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_cases import EVENT_ZERO, ZERO, Case

from speedprof.profiler.reduction import reduce_folder, reduce_window
from speedprof.profiler.window_file import PREFIX
from speedprof.profiler.window_reading import DamagedWindowError, read

STACK = [("/home/me/train.py", 3, "main", False)]


def small(folder: Path) -> Path:
    case = Case([0, 10]).event("aten::linear", 2, 5).probe("backward", 4, 6).sample(3, STACK)
    return case.write(folder / "window-node-42-0.win")


def changed(path: Path, **header: object) -> Path:
    data = path.read_bytes()
    _, length = PREFIX.unpack_from(data)
    plain = json.loads(data[PREFIX.size : PREFIX.size + length]) | header
    text = json.dumps(plain).encode()
    path.write_bytes(
        data[:4] + len(text).to_bytes(4, "little") + text + data[PREFIX.size + length :]
    )
    return path


def test_a_file_cut_off_at_any_byte_is_refused_with_a_reason(tmp_path: Path):
    path = small(tmp_path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedWindowError):
            read(path)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_a_file_overwritten_anywhere_is_used_or_refused(tmp_path_factory, at, garbage):
    path = small(tmp_path_factory.mktemp("w"))
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(garbage)] = garbage
    path.write_bytes(bytes(data))
    assert reduce_folder(path.parent) in (0, 1)
    assert not path.exists()


@pytest.mark.parametrize(
    "header",
    [
        {"format": 99},
        {"boundaries": [5]},
        {"boundaries": [5, 5]},
        {"names": []},
        {"stacks": [[7]]},
        {"stacks": []},
        {"frames": [["a.py"]]},
        {"clock": []},
        {"columns": [["event", "name", -1]]},
        {"thread": "main"},
        {"thread": 1 << 70},
        {"boundaries": [1, 1 << 70]},
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_its_columns_is_refused(tmp_path: Path, header):
    with pytest.raises(DamagedWindowError):
        read(changed(small(tmp_path), **header))


def test_event_times_are_put_on_the_steps_clock_by_both_ends_of_the_window(tmp_path: Path):
    clock = [[ZERO, EVENT_ZERO], [ZERO + 10_001_000, EVENT_ZERO + 10_000_000]]
    window = read(changed(small(tmp_path), clock=clock))
    assert window.event["start"].tolist() == [ZERO + 2_000_200]
    assert window.event["end"].tolist() == [ZERO + 5_000_500]


def test_clocks_that_disagree_wildly_are_tied_at_their_beginning(tmp_path: Path):
    clock = [[ZERO, EVENT_ZERO], [ZERO + 99_000_000, EVENT_ZERO + 10_000_000]]
    window = read(changed(small(tmp_path), clock=clock))
    assert window.event["start"].tolist() == [ZERO + 2_000_000]


def test_reducing_a_folder_replaces_windows_and_sets_damaged_ones_aside(tmp_path: Path):
    small(tmp_path)
    (tmp_path / "window-node-42-1.win").write_bytes(b"not a window")
    (tmp_path / "window-node-42-2.win.part").write_bytes(b"being written")
    assert reduce_folder(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "window-node-42-0.json",
        "window-node-42-1.damaged",
        "window-node-42-2.win.part",
    }
    assert reduce_folder(tmp_path) == 0


def test_a_folder_that_is_gone_has_no_windows(tmp_path: Path):
    assert reduce_folder(tmp_path / "gone") == 0


def test_a_large_window_is_reduced_whole(tmp_path: Path):
    case = Case([0, 5_000, 10_000])
    for number in range(20_000):
        at = number / 2
        case.event("aten::linear", at, at + 0.4).event("aten::addmm", at + 0.1, at + 0.3)
    window = reduce_window(case.window(tmp_path))
    assert window.operator_calls == 20_000
    assert sum(o.ns for o in window.operators) == 20_000 * 400_000
    assert window.events == 40_000
