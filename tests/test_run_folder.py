"""Run folders: one for each run, never a harmful name, found by whatever the user calls them."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler import run_folder
from speedprof.profiler.errors import SpeedprofError

NOON = 1_700_000_000.0


def _run(parent: Path, name: str, *, now: float = NOON) -> Path:
    folder = run_folder.create(parent, name, now=now)
    run_folder.write(folder / run_folder.START, {})
    os.utime(folder / run_folder.START, (now, now))
    return folder


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: run_folder.create(parent, "train", now=NOON), range(24)))
    assert len(set(made)) == 24
    assert all(folder.is_absolute() and folder.is_dir() for folder in made)


@given(st.text())
def test_any_name_becomes_a_plain_one(text: str) -> None:
    name = run_folder.safe_name(text)
    assert 0 < len(name) <= run_folder.LONGEST_NAME
    assert name.isprintable()
    assert not set(name) & set("/\\'\"<>$ ;:*?|&")
    assert name[0] not in ".-"
    os.fsencode(name).decode("utf-8")


def test_what_is_half_written_is_never_seen(tmp_path: Path) -> None:
    path = tmp_path / "end.json"
    run_folder.write(path, {"a": 1})
    with pytest.raises(TypeError):
        run_folder.write(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_newest_run_is_found_without_a_name(tmp_path: Path) -> None:
    old, new = _run(tmp_path, "b"), _run(tmp_path, "a", now=NOON + 60)
    assert run_folder.runs(tmp_path) == [old, new]
    assert run_folder.find(None, tmp_path) == new


def test_a_run_is_found_by_path_by_folder_name_and_by_its_own_name(tmp_path: Path) -> None:
    one, two = _run(tmp_path, "one"), _run(tmp_path, "two")
    assert run_folder.find(str(one), Path("elsewhere")) == one
    assert run_folder.find(two.name, tmp_path) == two
    assert run_folder.find("two", tmp_path) == two


def test_a_name_of_several_runs_is_asked_for_again(tmp_path: Path) -> None:
    _run(tmp_path, "train")
    newest = _run(tmp_path, "train", now=NOON + 60)
    with pytest.raises(SpeedprofError, match=f"any of 2 runs.*{newest.name}"):
        run_folder.find("train", tmp_path)


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(SpeedprofError, match=r"`speedprof run train\.py` makes one"):
        run_folder.find(None, tmp_path)
    with pytest.raises(SpeedprofError, match="no run nope"):
        run_folder.find("nope", tmp_path)
    with pytest.raises(SpeedprofError, match=r"is no run: it has no run\.json"):
        run_folder.find(str(tmp_path), tmp_path)
