"""`speedprof apply`: a diff that can be applied, files written with a backup, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speedprof.mitigations.rewrite import proposal, sources, targets
from speedprof.mitigations.rewrite.order import Outcome
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.run import Line, Loader, Run
from speedprof.tests.launching import bare, said, script, speedprof
from speedprof.tests.rewrites import order
from speedprof.tests.runs import run

TRAIN = """\
import torch
from torch.utils.data import DataLoader

loader = DataLoader(range(8), batch_size=2)
"""
PINNED = TRAIN.replace("=2)", "=2, pin_memory=True)")
SLOW = '''\
"""Loading that waits."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Slow(Dataset):
    def __len__(self):
        return 480

    def __getitem__(self, index):
        time.sleep(0.004)
        return torch.full((16,), float(index))


def main():
    torch.manual_seed(0)
    loader = DataLoader(Slow(), batch_size=8)  # here
    model = nn.Linear(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    for batch in loader:
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{loader.num_workers} workers, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
'''


def recorded(folder: Path, content: bytes | str = TRAIN, name: str = "train.py") -> Path:
    """Return a script that a run of its own was made of; only the run's start is recorded."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    of_run = folder / "speedprof-runs" / "20260101-000000-train"
    of_run.mkdir(parents=True)
    start = {
        "format": 1,
        "name": "train",
        "command": [sys.executable, name],
        "cwd": str(folder),
        "started_at": time.time(),
        "version": "0",
        "script": {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
    }
    (of_run / "run.json").write_text(json.dumps(start), "utf-8")
    return path


def applied(folder: Path, *arguments: str, status: int = 0) -> tuple[bytes, str]:
    """Return the diff, and what was said of it."""
    done = speedprof("apply", *arguments, cwd=folder)
    told = done.stderr.decode()
    assert done.returncode == status, told
    assert "Traceback" not in told
    return done.stdout, told


def one_sentence(folder: Path, *arguments: str) -> str:
    """Return why nothing is done, said in one sentence."""
    diff, told = applied(folder, *arguments, status=2)
    assert diff == b""
    assert told.startswith("speedprof: ")
    assert told.count("\n") == 1
    return told


@pytest.mark.slow
def test_a_script_is_run_rewritten_and_run_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    name = script(tmp_path, SLOW, "train.py")
    speedprof("run", "--warmup", "2", name, cwd=tmp_path)
    digest = hashlib.sha256(SLOW.encode()).hexdigest()
    assert said(tmp_path, "run.json")["script"] == {"path": str(tmp_path / name), "sha256": digest}
    diff, told = applied(tmp_path)
    assert "loader-workers: written" in told
    assert (tmp_path / name).read_text("utf-8") == SLOW
    again, told = applied(tmp_path, "--write")
    assert again == diff
    assert "changed train.py; what it was is in train.py.orig" in told
    done = bare(sys.executable, name, cwd=tmp_path)
    before = bare(sys.executable, "train.py.orig", cwd=tmp_path)
    workers, _, loss = done.stdout.decode().partition(" workers, ")
    assert int(workers) >= 1
    assert before.stdout.decode() == f"0 workers, {loss}"


@pytest.mark.parametrize(
    "content",
    [
        TRAIN.encode(),
        TRAIN.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + TRAIN.encode(),
        b"# coding: latin-1\n# \xe9t\xe9\n" + TRAIN.encode() + b'name = "\xfc"\n',
        TRAIN.rstrip("\n").encode(),
        TRAIN.encode() + b"if loader:\n\tprint('\x0c')\n\x0c\nend = 1",
    ],
    ids=["plain", "CRLF", "byte order mark", "latin-1", "no last newline", "tabs, form feeds"],
)
def test_the_diff_and_the_written_file_agree_byte_by_byte(tmp_path: Path, content: bytes) -> None:
    path = recorded(tmp_path, content)
    diff, _ = applied(tmp_path, "--remedy", "pin-memory", "--remedy", "tf32")
    assert path.read_bytes() == content
    applied(tmp_path, "--remedy", "pin-memory,tf32", "--write")
    written = path.read_bytes()
    assert b"batch_size=2, pin_memory=True)" in written
    rest = written.replace(b", pin_memory=True", b"").replace(
        b'torch.set_float32_matmul_precision("high")', b""
    )
    assert rest.split() == content.split()
    assert (written.count(b"\r\n") == written.count(b"\n")) == (b"\r\n" in content)
    assert path.with_name("train.py.orig").read_bytes() == content
    path.write_bytes(content)
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"], input=diff, cwd=tmp_path, check=True
    )
    assert path.read_bytes() == written


def test_backups_are_never_overwritten_and_rights_and_links_are_kept(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    real = tmp_path / "real.py"
    path.rename(real)
    real.chmod(0o755)
    path.symlink_to(real)
    (tmp_path / "real.py.orig").write_text("mine")
    applied(tmp_path, "--remedy", "pin-memory", "--write")
    assert path.is_symlink()
    assert real.read_text() == PINNED
    assert real.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "real.py.orig").read_text() == "mine"
    assert (tmp_path / "real.py.orig.1").read_text() == TRAIN
    assert {one.name for one in tmp_path.iterdir()} == {
        "train.py", "real.py", "real.py.orig", "real.py.orig.1", "speedprof-runs",
    }  # fmt: skip


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    path = recorded(tmp_path, PINNED)
    before = path.stat().st_mtime_ns
    diff, told = applied(tmp_path, "--remedy", "pin-memory", "--write")
    assert diff == b""
    assert "pin-memory: nothing to change (the source does so already)" in told
    assert "no file was changed" in told
    assert path.stat().st_mtime_ns == before
    assert not (tmp_path / "train.py.orig").exists()


def test_what_is_refused_says_why_and_keeps_nobody_else_from_being_written(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    _, told = applied(tmp_path, "--remedy", "compile-model", "--remedy", "pin-memory", "--write")
    assert "compile-model: refused (the model was not found" in told
    assert "pin-memory: written" in told
    assert path.read_text() == PINNED


def test_where_nothing_can_be_written_the_other_way_is_told(tmp_path: Path) -> None:
    recorded(tmp_path)
    diff, told = applied(tmp_path, "--remedy", "compile-model")
    assert not diff
    assert "no file would change" in told
    assert "`speedprof run --apply compile-model` tries it without a change" in told


def test_a_plan_is_written(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    plan = "format = 1\n[remedies.loader-workers]\nnum_workers = 3\npersistent_workers = false\n"
    (tmp_path / "fast.toml").write_text(plan)
    applied(tmp_path, "--plan", "fast.toml", "--write")
    assert "batch_size=2, num_workers=3, persistent_workers=False)" in path.read_text()


def test_a_value_is_set_by_name(tmp_path: Path) -> None:
    path = recorded(tmp_path, TRAIN.replace("=2)", "=2, num_workers=1)"))
    applied(tmp_path, "--remedy", "loader-workers=5", "--write")
    assert "batch_size=2, num_workers=5, persistent_workers=True)" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--remedy", "pin-memry"], "did you mean pin-memory"),
        (["--remedy", "raw-pixels"], "speedprof explain raw-pixels"),
        (["--remedy", "loader-workers=many"], "must be a whole number"),
        (["--remedy", "loader-workers,in-process-loading"], "do not go together"),
        (["--plan", "none.toml"], "cannot read the plan none.toml"),
        (["nowhere"], "no run nowhere"),
        ([], "there is nothing to write: this run has no advice"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    recorded(tmp_path)
    assert words in one_sentence(tmp_path, *arguments)


def test_a_source_that_changed_since_the_run_is_left_alone(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    path.write_text(f"{TRAIN}# a line more\n")
    told = one_sentence(tmp_path, "--remedy", "pin-memory", "--write")
    assert "train.py changed since this run; run it again" in told


def test_an_older_run_goes_by_the_files_time(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    start = next(tmp_path.glob("speedprof-runs/*/run.json"))
    told = json.loads(start.read_text())
    del told["script"]
    start.write_text(json.dumps(told))
    assert b"+loader" in applied(tmp_path, "--remedy", "pin-memory")[0]
    os.utime(path, (told["started_at"] + 60,) * 2)
    assert "changed since this run" in one_sentence(tmp_path, "--remedy", "pin-memory")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x = '\xff'\n", "is not utf-8 (byte 0xff in line 1); save it as UTF-8"),
        (b"# coding: klingon\nx = 1\n", "names an encoding that Python does not know"),
        (b"# coding: ascii\nx = '\xc3\xa9'\n", "is not ascii (byte 0xc3 in line 2)"),
    ],
)
def test_text_that_cannot_be_read_is_left_alone(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = recorded(tmp_path, content)
    assert words in one_sentence(tmp_path, "--remedy", "tf32", "--write")
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"x = 1\0\n", b"if x:\n", b"print 'two'\n", b""])
def test_what_is_no_python_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = recorded(tmp_path, content)
    diff, told = applied(tmp_path, "--remedy", "tf32", "--write")
    assert "tf32: refused" in told
    assert (diff, path.read_bytes()) == (b"", content)


def test_a_script_that_is_gone_or_read_only_is_said_so(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    path.chmod(0o444)
    assert b"+loader" in applied(tmp_path, "--remedy", "pin-memory")[0]
    told = one_sentence(tmp_path, "--remedy", "pin-memory", "--write")
    assert "train.py is read-only" in told
    assert path.read_text() == TRAIN
    path.unlink()
    assert "train.py is not there any more" in one_sentence(tmp_path, "--remedy", "pin-memory")


def of(folder: Path, command: list[str], where: str | None = None, **facts: Any) -> Run:
    loaders = [] if where is None else [_loader(where)]
    facts = {"loaders": loaders, "started_at": time.time() + 60, **facts}
    return run(command=command, cwd=str(folder), folder=str(folder), **facts)


def _loader(where: str) -> Loader:
    return Loader(
        number=0, role="training", where=where, dataset="D", iterable=False, length=8,
        batch_size=2, num_workers=0, pin_memory=False, persistent_workers=False,
        prefetch_factor=None, start_method=None, batches=4, iterations=1,
    )  # fmt: skip


def outcomes(found: targets.Targets, *names: str) -> dict[str, Outcome]:
    made = proposal.propose(found, [order(name) for name in names])
    return {one.name: one for one in made.outcomes}


@pytest.mark.parametrize(("text", "state"), [(TRAIN, "written"), ("import torch\n", "refused")])
def test_what_only_serves_a_remedy_goes_with_it(text: str, state: str, tmp_path: Path) -> None:
    source = sources.read(recorded(tmp_path, text))
    threads = replace(order("fewer-threads", threads=1), serves="loader-workers")
    found = targets.Targets(files=(targets.Target(source=source),))
    made = proposal.propose(found, [threads, order("loader-workers")])
    assert [one.state for one in made.outcomes] == [state, state]
    assert bool(made.changes) == (state == "written")


def test_a_package_is_written_into_the_file_of_its_loop(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    line = Line(where="train.py:9", function="f", phase="compute", kind="launch", share=1, ms=1)
    found = targets.targets(of(tmp_path, ["/bin/python", "-m", "pkg", "a.py"], lines=[line]))
    assert [one.source.path for one in found.files] == [tmp_path / "train.py"]
    assert found.note is not None
    assert found.note.startswith("the run was `python -m pkg a.py`; its training loop is in ")


def test_a_loader_of_another_file_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nimport data\n")
    (tmp_path / "data.py").write_text(TRAIN)
    found = targets.targets(of(tmp_path, ["torchrun", "train.py"], "data.py:4"))
    made = proposal.propose(found, [order(name) for name in ("loader-workers", "tf32")])
    assert [one.state for one in made.outcomes] == ["written", "written"]
    changed = {one.source.path.name: one.text for one in made.changes}
    assert "num_workers=2" in changed["data.py"]
    assert "precision" not in changed["data.py"]
    assert "precision" in changed["train.py"]


def test_a_loader_of_a_library_is_refused_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    library = "/opt/lib/python3.11/site-packages/mine/loop.py:40"
    found = targets.targets(of(tmp_path, ["python", "train.py"], library))
    made = outcomes(found, "loader-workers", "tf32")
    assert made["tf32"].state == "written"
    assert made["loader-workers"].why == (
        f"the training loader is built at {library}, in none of your files"
    )


@pytest.mark.parametrize(
    ("command", "facts", "words"),
    [
        (["jupyter", "nbconvert", "--execute", "a.ipynb"], {}, "ran in a notebook"),
        (["python", "-m", "pkg"], {}, "which file trains was not seen in the run of `python -m"),
        (["python", "train.py"], {"kind": "trace"}, "a recorded trace names no script"),
    ],
)
def test_runs_that_name_no_script_are_refused(
    tmp_path: Path, command: list[str], facts: dict[str, Any], words: str
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    with pytest.raises(SpeedprofError, match=words):
        targets.targets(of(tmp_path, command, **facts))
