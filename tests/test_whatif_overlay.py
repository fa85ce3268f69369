"""A trial's files: the script sees what it wrote, the user's folder stays as it was."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import shutil
import stat
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from speedprof.profiler.patches import Patches
from speedprof.profiler.trials import overlay as overlays
from speedprof.profiler.trials import protection
from speedprof.profiler.trials.leading import lead
from speedprof.profiler.trials.overlay import Overlay

FREE = ("/dev", "/proc", "/sys", sys.prefix)


@contextlib.contextmanager
def led(scratch: Path, *free: str) -> Iterator[Overlay]:
    """Lead this process's files as a trial does."""
    patches = Patches()
    overlay = Overlay(str(scratch), (*FREE, *free))
    lead(overlay, patches)
    try:
        yield overlay
    finally:
        assert patches.undo() == []


def contents(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Return every path below a folder with its bytes and the moment of its last change."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else None,
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a user's folder with a checkpoint, a log and a folder of results."""
    folder = tmp_path / "home"
    (folder / "results").mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"weights")
    (folder / "train.log").write_text("epoch 1\n")
    (folder / "results" / "best.txt").write_text("0.9")
    return folder


def test_what_is_written_is_read_back_and_the_users_file_stays(tmp_path: Path, home: Path) -> None:
    before = contents(home)
    with led(tmp_path / "scratch"):
        with open(home / "last.ckpt", "wb") as file:
            file.write(b"new")
        assert (home / "last.ckpt").read_bytes() == b"new"
        assert os.path.getsize(home / "last.ckpt") == 3
    assert contents(home) == before


def test_a_log_goes_on_where_the_users_ends(tmp_path: Path, home: Path) -> None:
    before = contents(home)
    with led(tmp_path / "scratch"):
        logger = logging.getLogger("a script's")
        handler = logging.FileHandler(home / "train.log")
        logger.addHandler(handler)
        logger.warning("epoch 2")
        logger.removeHandler(handler)
        handler.close()
        assert (home / "train.log").read_text() == "epoch 1\nepoch 2\n"
    assert contents(home) == before


def test_other_ways_of_writing_are_led_too(tmp_path: Path, home: Path) -> None:
    before = contents(home)
    with led(tmp_path / "scratch"):
        with gzip.open(home / "log.gz", "wt") as file:
            file.write("line")
        (home / "config.json").write_text(json.dumps({"a": 1}))
        shutil.copyfile(home / "last.ckpt", home / "best.ckpt")
        descriptor = os.open(home / "raw", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"raw")
        os.close(descriptor)
        with tempfile.NamedTemporaryFile(dir=home, delete=False) as part:
            part.write(b"atomic")
        os.replace(part.name, home / "last.ckpt")
        os.symlink("last.ckpt", home / "newest")
        with gzip.open(home / "log.gz", "rt") as file:
            assert file.read() == "line"
        assert (home / "best.ckpt").read_bytes() == b"weights"
        assert (home / "last.ckpt").read_bytes() == b"atomic"
        assert (home / "newest").read_bytes() == b"atomic"
    assert contents(home) == before


def test_checkpoints_are_rotated_in_the_trial_alone(tmp_path: Path, home: Path) -> None:
    before = contents(home)
    with led(tmp_path / "scratch"):
        for step in range(4):
            folder = home / "out" / f"checkpoint-{step}"
            os.makedirs(folder, exist_ok=True)
            (folder / "model.bin").write_bytes(b"m")
            saved = sorted((home / "out").glob("checkpoint-*"))
            if len(saved) > 2:
                shutil.rmtree(saved[0])
        assert sorted(os.listdir(home / "out")) == ["checkpoint-2", "checkpoint-3"]
        shutil.rmtree(home / "results")
        assert not (home / "results").exists()
        os.makedirs(home / "results")
        assert os.listdir(home / "results") == []
    assert contents(home) == before


def test_no_link_leads_back_to_the_users_file(tmp_path: Path, home: Path) -> None:
    before = contents(home)
    with led(tmp_path / "scratch"):
        os.symlink(home / "last.ckpt", home / "newest")
        os.symlink(home / "results", home / "current")
        os.link(home / "train.log", home / "copy.log")
        assert (home / "newest").read_bytes() == b"weights"
        (home / "newest").write_bytes(b"through the link")
        (home / "current" / "best.txt").write_text("through the folder")
        with open(home / "copy.log", "a") as file:
            file.write("epoch 2")
        assert (home / "last.ckpt").read_bytes() == b"through the link"
    assert contents(home) == before


def test_a_large_file_opened_for_changes_is_not_copied(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlays, "LARGEST_COPY", 4)
    with led(tmp_path / "scratch") as overlay:
        with open(home / "last.ckpt", "r+b") as file:  # as numpy.memmap opens data sets
            assert file.read() == b"weights"
        assert not os.path.lexists(overlay.place(str(home / "last.ckpt")))


def test_folders_of_the_trials_own_are_left_alone(tmp_path: Path, home: Path) -> None:
    own = tmp_path / "tmp"
    own.mkdir()
    with led(tmp_path / "scratch", str(own)):
        (own / "file").write_text("x")
    assert (own / "file").read_text() == "x"


def test_devices_are_written_as_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with led(tmp_path / "scratch"):
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with open(pipe, "wb") as file:
            file.write(b"x")
        assert os.read(reader, 1) == b"x"
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


# -- the same operations with and without: what the script sees is the same

NAMES = ("a", "a/b", "b", "d", "d/a", "d/e", "new", "new/a")


def _write(root: Path, name: str) -> object:
    return (root / name).write_text("written")


def _append(root: Path, name: str) -> object:
    with open(root / name, "a") as file:
        file.write("+")
    return None


def _create(root: Path, name: str) -> object:
    with open(root / name, "x") as file:
        file.write("created")
    return None


def _update(root: Path, name: str) -> object:
    with open(root / name, "r+") as file:
        file.write("U")
    return None


def _read(root: Path, name: str) -> object:
    return (root / name).read_text()


def _list(root: Path, name: str) -> object:
    return sorted(os.listdir(root / name)), sorted(e.name for e in os.scandir(root / name))


def _remove(root: Path, name: str) -> object:
    path = root / name
    return None if path.is_dir() else path.unlink()


def _exists(root: Path, name: str) -> object:
    return (root / name).exists(), (root / name).is_dir(), os.path.isfile(root / name)


def _make(root: Path, name: str) -> object:
    return os.mkdir(root / name)


def _make_all(root: Path, name: str) -> object:
    return os.makedirs(root / name, exist_ok=True)


def _remove_all(root: Path, name: str) -> object:
    return shutil.rmtree(root / name, ignore_errors=not (root / name).is_dir())


def _rename(root: Path, name: str) -> object:
    path = root / name
    if path.is_dir() or (root / "a").is_dir():
        return None  # folders of the user's are not moved, and that is said
    return os.replace(path, root / "a")


OPERATIONS: tuple[Callable[[Path, str], object], ...] = (
    _write, _append, _create, _update, _read, _list, _remove, _exists, _make, _make_all,
    _remove_all, _rename,
)  # fmt: skip


def _outcome(operation: Callable[[Path, str], object], root: Path, name: str) -> Any:
    try:
        return operation(root, name)
    except (FileNotFoundError, NotADirectoryError):
        return "not there"
    except OSError as error:
        return type(error).__name__


def _folder(at: Path) -> Path:
    (at / "d" / "e").mkdir(parents=True)
    (at / "a").write_text("first")
    (at / "d" / "a").write_text("second")
    return at


@settings(max_examples=300, deadline=None)
@given(
    some.lists(some.tuples(some.sampled_from(OPERATIONS), some.sampled_from(NAMES)), max_size=12)
)
def test_a_script_cannot_tell_the_trials_files_from_its_own(
    steps: list[tuple[Callable[[Path, str], object], str]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        there, here = _folder(Path(name) / "bare"), _folder(Path(name) / "led")
        bare = [_outcome(operation, there, path) for operation, path in steps]
        before = contents(here)
        with led(Path(name) / "scratch"):
            trial = [_outcome(operation, here, path) for operation, path in steps]
        assert trial == bare
        assert contents(here) == before


def test_trackers_are_put_offline_by_their_own_variables(tmp_path: Path) -> None:
    told = protection.variables(str(tmp_path / "s"), str(tmp_path / "t"), {})
    assert told["WANDB_MODE"] == "offline"
    assert told["WANDB_DIR"].startswith(str(tmp_path / "s"))
    assert told["MLFLOW_TRACKING_URI"].startswith(f"file:{tmp_path / 's'}")
    assert told["NEPTUNE_MODE"] == "offline"
    assert told["TMPDIR"] == str(tmp_path / "t")


def test_trackers_stay_offline_whatever_the_script_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    wandb = types.ModuleType("wandb")
    wandb.init = lambda **named: asked.update(named)  # type: ignore[attr-defined]
    mlflow = types.ModuleType("mlflow")
    mlflow.set_tracking_uri = lambda uri: asked.update(uri=uri)  # type: ignore[attr-defined]
    writer = types.ModuleType("writer")
    writer.SummaryWriter = type(  # type: ignore[attr-defined]
        "SummaryWriter", (), {"__init__": lambda _self, log_dir: asked.update(log_dir=log_dir)}
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:/scratch/mlruns")
    overlay, patches = Overlay(str(tmp_path / "scratch"), FREE), Patches()
    for name, module in (
        ("wandb", wandb),
        ("mlflow", mlflow),
        ("torch.utils.tensorboard.writer", writer),
    ):
        protection.COMPANIONS[name](overlay, patches, module)
    wandb.init(project="p", mode="online")
    mlflow.set_tracking_uri("https://their.server")
    writer.SummaryWriter("/home/user/runs")
    assert asked["mode"] == "offline"
    assert asked["uri"] == "file:/scratch/mlruns"
    assert asked["log_dir"] == overlay.place("/home/user/runs")
    assert patches.undo() == []


def test_compiled_kernels_stay_where_the_user_has_them(tmp_path: Path) -> None:
    theirs = {"TORCHINDUCTOR_CACHE_DIR": "/their/cache"}
    told = protection.variables(str(tmp_path / "s"), str(tmp_path / "t"), theirs)
    assert told["TORCHINDUCTOR_CACHE_DIR"] == "/their/cache"
