"""The measuring process: in any interpreter with torch, and outlived when it dies or hangs."""

from __future__ import annotations

import os
import stat
import sys
import venv
from pathlib import Path

import pytest

from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.roofs import load, process
from speedprof.profiler.roofs.machine import this_machine
from speedprof.profiler.roofs.roofs import Roofs

torch = pytest.importorskip("torch")

OURS = ("speedprof", "__editable__", "click", "rich", "msgspec", "psutil", "pynvml", "matplotlib")
STAND_IN = """#!{python}
import json, os, signal, sys, time
order = json.loads(sys.argv[2])
answers = os.fdopen(order["answers"], "w", buffering=1)
tell = lambda **fields: answers.write(json.dumps(dict(fields, cpu_s=0.0)) + "\\n")
tell(versions=dict(python="3", torch="2", cuda=None))
for part in order["parts"]:
    tell(begin=part)
    if part == {dies!r}: {how}
    tell(end=part, found=dict(), absent={{part: "not here"}})
"""


def _measure(python: str, *parts: str, storage: Path) -> tuple[Roofs, list[str]]:
    told: list[str] = []
    wish = process.Wish(python=python, machine=this_machine(), parts=parts, storage=storage)
    return process.measure(wish, told.append), told


def _stand_in(folder: Path, *, dies: str, how: str) -> str:
    """Write an interpreter that keeps to the protocol until one part."""
    path = folder / "python"
    path.write_text(STAND_IN.format(python=sys.executable, dies=dies, how=how))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.slow
def test_parts_are_measured_in_order_and_told(tmp_path: Path) -> None:
    roofs, told = _measure(sys.executable, "dispatch", "copies", storage=tmp_path)
    assert told == ["dispatch", "copies"]
    assert set(roofs.measured_at) == {"dispatch", "copies"}
    assert roofs.processor is not None
    assert roofs.processor.operators_per_s is not None
    assert roofs.torch == torch.__version__
    if not torch.cuda.is_available():
        assert roofs.absent["copies"] == "torch sees no CUDA device"
        assert roofs.absent["dispatch: cuda"] == "torch sees no CUDA device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interpreter_with_nothing_of_ours_measures(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    theirs = tmp_path_factory.mktemp("theirs")
    venv.create(theirs)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for package in Path(str(torch.__file__)).parent.parent.iterdir():
        if not package.name.startswith((*OURS, "_distutils", "distutils-")):
            (theirs / "lib" / version / "site-packages" / package.name).symlink_to(package)
    python = str(theirs / "bin" / "python")
    roofs, _ = _measure(python, "all-reduce", "dispatch", storage=tmp_path)
    assert roofs.absent.keys() <= {"dispatch: cuda"}
    (exchanged,) = roofs.all_reduce
    assert (exchanged.backend, exchanged.ranks, exchanged.nodes) == ("gloo", 2, 1)
    assert [one.bytes for one in exchanged.sizes] == sorted(one.bytes for one in exchanged.sizes)
    assert all(one.gb_per_s.best > 0 for one in exchanged.sizes)


@pytest.mark.parametrize("program", ["/bin/true", "/bin/false", "/nowhere/python"])
def test_what_is_no_interpreter_is_refused_in_a_sentence(tmp_path: Path, program: str) -> None:
    with pytest.raises(SpeedprofError, match=rf"^{program} cannot measure .* --python PATH$"):
        _measure(program, "memory", storage=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interpreter_without_torch_is_refused_by_that_reason(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    folder = tmp_path / "storage"
    folder.mkdir()
    with pytest.raises(SpeedprofError, match="No module named 'torch'"):
        _measure(str(bare), "memory", storage=folder)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "the measuring process was ended by SIGKILL"),
        ("raise TypeError('a bug')", "the measuring process failed: TypeError: a bug"),
        ("sys.exit(3)", "the measuring process failed: "),
    ],
)
def test_a_part_that_ends_its_process_is_absent_and_the_rest_goes_on(
    tmp_path: Path, how: str, why: str
) -> None:
    python = _stand_in(tmp_path, dies="memory", how=how)
    roofs, told = _measure(python, "decode", "memory", "matmul", storage=tmp_path)
    assert told == ["decode", "memory", "matmul"]
    assert roofs.absent == {"decode": "not here", "memory": why, "matmul": "not here"}


def test_a_part_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PART_S", 1.0)
    python = _stand_in(tmp_path, dies="storage", how="time.sleep(1000)")
    roofs, _ = _measure(python, "storage", "matmul", storage=tmp_path)
    assert roofs.absent["storage"] == "it took longer than 1 s and was given up"
    assert roofs.absent["matmul"] == "not here"


def test_the_scratch_folder_is_gone_after_the_process_died(tmp_path: Path) -> None:
    how = "open(order['scratch'] + '/left', 'w').close() or os.kill(os.getpid(), 9)"
    python = _stand_in(tmp_path, dies="storage", how=how)
    folder = tmp_path / "disk"
    folder.mkdir()
    roofs, _ = _measure(python, "storage", storage=folder)
    assert "SIGKILL" in roofs.absent["storage"]
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_leaves_the_other_parts(tmp_path: Path) -> None:
    python = _stand_in(tmp_path, dies="", how="pass")
    roofs, told = _measure(python, "storage", "matmul", storage=Path("/proc"))
    assert told == ["matmul"]
    assert roofs.absent["storage"].startswith("cannot write to /proc (")
    assert roofs.absent["storage"].endswith("name another with --storage DIR")
    alone, _ = _measure(python, "storage", storage=Path("/proc"))
    assert set(alone.absent) == {"storage"}


def test_what_others_use_is_told_from_what_we_use() -> None:
    watch = load.Load(frozenset(os.sched_getaffinity(0)))
    watch.begin(0.0)
    assert watch.end(0.0) is None  # a moment tells nothing
    end = os.times().user + load.SHORTEST_S + 0.1
    while os.times().user < end:
        sum(range(1000))
    mine = watch.end(0.0)
    watch.begin(0.0)
    end = os.times().user + load.SHORTEST_S + 0.1
    while os.times().user < end:
        sum(range(1000))
    all_of_it = watch.end(1_000.0)
    assert mine is not None
    assert 0 <= mine <= len(os.sched_getaffinity(0))
    assert all_of_it == 0.0
