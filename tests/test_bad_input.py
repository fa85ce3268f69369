"""Whatever goes wrong around a training: it goes on, and one sentence says what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from speedprof.tests.transparency import (
    UNAWARE,
    Outcome,
    Running,
    assert_same,
    both,
    run_command,
    write,
)

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

REMEDIES = re.compile(
    r"--out|--python|speedprof\.step|leave|name |make room|check|write `|activate|install|"
    r"upgrade|update|nothing is left to report|is this the script|`speedprof "
)


def assert_one_sentence(text: str) -> None:
    """Assert that a user can read it at once and knows what to do."""
    assert "\n" not in text
    assert "Traceback" not in text
    assert not re.search(r"[a-z)]\. [A-Z]", text), f"more than one sentence: {text}"
    assert len(text) < 400
    assert REMEDIES.search(text), f"no remedy: {text}"


def trained(
    tmp_path: Path, deed: str, *, out: Path | None = None, options: Sequence[str] = ()
) -> Outcome:
    """Compare the training during which something goes wrong with one where nothing does."""
    arguments = ["train_and.py", deed] if deed else ["train_and.py"]
    bare, measured = both(UNAWARE, arguments, out=out or tmp_path, options=options)
    assert bare.status == 0, bare.stderr.decode()
    assert_same(bare, measured)
    for note in measured.closing["notes"]:
        assert_one_sentence(note)
    return measured


@pytest.mark.parametrize(
    ("target", "named"),
    [("missing.py", "missing.py"), ("folder", "__main__"), ("data.csv", "Python"), ("", "script")],
    ids=["missing", "a folder", "not Python", "nothing"],
)
def test_what_is_no_script_is_refused(tmp_path: Path, target: str, named: str) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, "a,b\n1,2\n", "data.csv")
    command = run_command([target] if target else [], out=tmp_path / "runs", options=())
    outcome = Running(command, cwd=tmp_path).outcome()
    assert outcome.status == 2
    assert outcome.stdout == b""
    sentence = outcome.stderr.decode().strip().splitlines()[-1]
    assert named in sentence
    assert_one_sentence(sentence.removeprefix("speedprof: "))
    assert not (tmp_path / "runs").exists()


def test_training_goes_on_where_nothing_can_be_written(tmp_path: Path) -> None:
    write(tmp_path, "", "a-file")
    measured = trained(tmp_path, "", out=tmp_path / "a-file")
    (note,) = measured.closing["notes"]
    assert "--out" in note
    assert measured.closing["folder"] is None


def test_training_goes_on_where_the_disk_fills_up(tmp_path: Path, full_disk: Path) -> None:
    measured = trained(tmp_path, "fill", out=full_disk)
    assert any("make room" in note for note in measured.closing["notes"])


@pytest.mark.parametrize("deed", ["delete", "file"])
def test_training_goes_on_where_its_run_folder_goes(tmp_path: Path, deed: str) -> None:
    measured = trained(tmp_path, deed)
    assert measured.closing["notes"]


def test_training_goes_on_where_files_may_not_grow(tmp_path: Path) -> None:
    import resource

    def limited(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command, cwd=UNAWARE, capture_output=True, check=False, timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
        )  # fmt: skip

    bare = limited([sys.executable, "train_and.py"])
    measured = limited(run_command(["train_and.py"], out=tmp_path, options=()))
    assert measured.returncode == bare.returncode == 0, measured.stderr.decode()
    assert measured.stdout == bare.stdout
    assert b"Traceback" not in measured.stderr
    assert b"speedprof: " in measured.stderr


def test_a_script_that_makes_no_step_is_told_how_to_mark_them(tmp_path: Path) -> None:
    measured = trained(tmp_path, "no step")
    (note,) = measured.closing["notes"]
    assert "3 batches" in note
    assert "speedprof.step" in note


HOSTILE = [b"two\nlines 'quoted\".py", b"\x1b[31mred\x1b[0m <b>.py", b"not-utf8-\xff.py"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_harms_neither_the_training_nor_the_report(
    tmp_path: Path, name: bytes
) -> None:
    script = os.path.join(os.fsencode(tmp_path), name)
    with open(script, "wb") as file:
        file.write((UNAWARE / "train_small.py").read_bytes())
    argument = os.fsdecode(b"./" + name)
    bare = Running([sys.executable, argument], cwd=tmp_path).outcome()
    command = run_command(
        [argument, "</script><img src=x onerror=alert(1)>", "\x1b]0;title\x07"],
        out=tmp_path / "runs",
        options=(),
    )
    measured = Running(command, cwd=tmp_path).outcome()
    assert (measured.status, measured.stdout) == (bare.status, bare.stdout)
    closing = measured.stderr[len(bare.stderr) :]
    assert b"\x1b" not in closing
    assert b"Traceback" not in closing
    assert b"12 steps" in closing
    (page,) = (tmp_path / "runs").glob("*/report.html")
    text = page.read_text("utf-8")
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert "alert(1)</script>" not in text


def test_two_runs_in_the_same_second_have_a_folder_each(tmp_path: Path) -> None:
    write(tmp_path, "print(1)")
    command = run_command(["train.py"], out=tmp_path / "runs")
    running = [Running(command, cwd=tmp_path) for _ in range(4)]
    folders = {each.outcome().folder for each in running}
    assert len(folders) == 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one real run."""
    folder = tmp_path_factory.mktemp("run")
    command = run_command(["train_and.py"], out=folder)
    return Running(command, cwd=UNAWARE).outcome().folder


def test_a_record_cut_off_anywhere_is_still_reported(run: Path, tmp_path: Path) -> None:
    (record,) = run.glob("rank-*.rec")
    whole = record.read_bytes()
    lengths = sorted({0, 1, 4, 13, *range(0, len(whole), len(whole) // 24), len(whole) - 1})
    seen = [
        _reported(_copy(run, tmp_path / str(length), record.name, whole[:length]))
        for length in lengths
    ]
    assert seen[0] == 0
    assert max(seen) > 30


@pytest.mark.parametrize("kind", ["rank-*.rec", "window-*", "worker-*", "machine-*", "end.json"])
def test_garbage_in_a_file_is_noted_and_the_rest_reported(
    run: Path, tmp_path: Path, kind: str
) -> None:
    path = next(run.glob(kind))
    for number, garbage in enumerate((b"\x00" * 999, b"SPR1" * 99, b"{" * 99, b"\xff\xfe[1e999]")):
        _reported(_copy(run, tmp_path / str(number), path.name, garbage))


def _copy(run: Path, to: Path, name: str, content: bytes) -> Path:
    to.mkdir()
    for path in run.iterdir():
        (to / path.name).write_bytes(content if path.name == name else path.read_bytes())
    return to


def _reported(folder: Path) -> int:
    """Make all three reports; return the steps in them."""
    from speedprof.reports import to_html, to_json, to_text

    view = _view(folder)
    for report in (to_html, to_json, to_text):
        assert report.render(view)
    steps: int = view.run.steps
    return steps


def _view(folder: Path) -> Any:
    from speedprof.profiler.attribution import load
    from speedprof.reports.view import of

    return of(load(folder))


@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "no run"), ('{"format": 99}', "newer"), ("[", "run.json")],
    ids=["no run", "newer", "damaged"],
)
def test_a_folder_that_is_no_run_of_ours_is_refused(
    tmp_path: Path, content: str | None, named: str
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content, "utf-8")
    command = [sys.executable, "-m", "speedprof", "report", str(tmp_path)]
    outcome = Running(command, cwd=tmp_path).outcome()
    assert outcome.status == 2
    sentence = outcome.stderr.decode().strip()
    assert named in sentence
    assert_one_sentence(sentence.removeprefix("speedprof: "))
