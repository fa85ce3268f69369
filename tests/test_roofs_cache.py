"""Roofs on disk: found again for the same machine, and never believed where they are wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from roofs_made import MACHINE, roofs

from speedprof.profiler import attribution, run_folder
from speedprof.profiler.roofs import cache
from speedprof.profiler.roofs.machine import Machine, mount_of, this_machine

A_MACHINE = Machine(
    node="lab-3",
    cpu="an x86 CPU",
    cores=4,
    cpus=frozenset(range(4)),
    memory_bytes=16 << 30,
    gpus=(("NVIDIA A100", "GPU-1"), ("NVIDIA A100", "GPU-2")),
)


@pytest.fixture(autouse=True)
def kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "speedprof" / "roofs"


def test_what_was_written_is_read_again(kept_here: Path) -> None:
    place = cache.write(roofs())
    assert place == kept_here / f"{MACHINE}.json"
    assert cache.read(MACHINE) == (roofs(), None)


def test_a_machine_that_was_never_measured_is_no_error() -> None:
    assert cache.read(MACHINE) == (None, None)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": 1}', '{"machine": 7, "node": "a", "cores": 1}', "\udcff"],
)
def test_a_damaged_file_is_not_used_and_one_sentence_says_so(kept_here: Path, text: str) -> None:
    kept_here.mkdir(parents=True)
    (kept_here / f"{MACHINE}.json").write_text(text, "utf-8", "surrogateescape")
    found, why = cache.read(MACHINE)
    assert found is None
    assert why is not None
    assert why.endswith("are damaged")


def test_a_file_that_is_cut_off_anywhere_is_damaged(kept_here: Path) -> None:
    whole = cache.write(roofs()).read_bytes()
    for length in range(0, len(whole) - 2, 97):
        (kept_here / f"{MACHINE}.json").write_bytes(whole[:length])
        found, why = cache.read(MACHINE)
        assert (found, why is not None) == (None, True)


@pytest.mark.parametrize("best", [0, -1.0, 1e400])
def test_a_rate_that_cannot_be_is_damage(kept_here: Path, best: float) -> None:
    text = cache.write(roofs()).read_text()
    wrong = text.replace('"best": 1700.0', f'"best": {best}'.replace("inf", "1e400"))
    assert wrong != text
    (kept_here / f"{MACHINE}.json").write_text(wrong)
    found, why = cache.read(MACHINE)
    assert found is None
    assert why is not None


def test_roofs_of_another_machine_are_not_used(kept_here: Path) -> None:
    cache.write(roofs(machine="another"))
    (kept_here / "another.json").rename(kept_here / f"{MACHINE}.json")
    found, why = cache.read(MACHINE)
    assert found is None
    assert why is not None
    assert "another machine (lab-3, an x86 CPU)" in why


def test_roofs_of_another_version_are_not_used() -> None:
    cache.write(roofs(format=99))
    found, why = cache.read(MACHINE)
    assert found is None
    assert why is not None
    assert "another version" in why


def test_a_file_that_cannot_be_read_is_said(kept_here: Path) -> None:
    (kept_here / f"{MACHINE}.json").mkdir(parents=True)
    found, why = cache.read(MACHINE)
    assert found is None
    assert why is not None
    assert "cannot be read" in why


@pytest.mark.parametrize("named", ["", "relative/cache", None])
def test_without_a_usable_xdg_cache_home_the_users_own_cache_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if named is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert cache.folder() == tmp_path / ".cache" / "speedprof" / "roofs"


def test_the_same_machine_has_the_same_name_and_any_other_another() -> None:
    others = [
        replace(A_MACHINE, cpu="an Arm CPU"),
        replace(A_MACHINE, cores=3.5),
        replace(A_MACHINE, memory_bytes=32 << 30),
        replace(A_MACHINE, gpus=A_MACHINE.gpus[:1]),
        replace(A_MACHINE, gpus=(("NVIDIA A100", "GPU-1"), ("NVIDIA A100", "GPU-3"))),
    ]
    assert A_MACHINE.id not in {other.id for other in others}
    assert len({other.id for other in others}) == len(others)


def test_neither_a_new_host_name_nor_the_order_of_gpus_makes_another_machine() -> None:
    assert replace(A_MACHINE, node="lab-4").id == A_MACHINE.id
    assert replace(A_MACHINE, gpus=A_MACHINE.gpus[::-1]).id == A_MACHINE.id
    assert replace(A_MACHINE, memory_bytes=(16 << 30) - (5 << 20)).id == A_MACHINE.id
    assert this_machine().id == this_machine().id


def test_a_mount_is_above_its_folder(tmp_path: Path) -> None:
    mount = Path(mount_of(str(tmp_path)))
    assert mount.is_mount()
    assert tmp_path.resolve().is_relative_to(mount)


def test_a_run_is_given_the_roofs_of_this_machine_alone(tmp_path: Path) -> None:
    cache.hand_to(tmp_path)
    cache.write(roofs())
    cache.hand_to(tmp_path)
    assert not (tmp_path / cache.FILE).exists()
    ours = roofs(machine=this_machine().id)
    cache.write(ours)
    cache.hand_to(tmp_path)
    assert cache.load(tmp_path / cache.FILE) == (ours, None)


def test_a_run_reads_its_roofs_and_says_where_they_are_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run_folder.write_start(folder, ["a.py"], name="a", started_at=0.0, options={}, version="1")
    assert attribution.load(folder).roofs is None
    (folder / cache.FILE).write_text(cache.encoded(roofs()))
    run = attribution.load(folder)
    assert run.roofs == roofs()
    (folder / cache.FILE).write_text(json.dumps({"format": 1}))
    damaged = attribution.load(folder)
    assert damaged.roofs is None
    assert [note for note in damaged.notes if "damaged" in note]
    assert not [note for note in run.notes if "damaged" in note]
