"""The commands around a run, on runs made whole: what a person reads and what a CI job gets."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import jsonschema
import pytest

from speedprof.reports import to_json
from speedprof.tests.launching import only_run, script, speedprof, started

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

TRAINING = """
import sys, time, torch
from torch.utils.data import DataLoader, Dataset

class Samples(Dataset):
    def __len__(self): return 4 * int(sys.argv[1])
    def __getitem__(self, i):
        time.sleep(float(sys.argv[2]) / 4)
        return torch.ones(8)

model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for number, batch in enumerate(DataLoader(Samples(), batch_size=4)):
    optimizer.zero_grad()
    model(batch).sum().backward()
    optimizer.step()
    if number == 20: print("ready", flush=True)
print("trained", number + 1)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two runs, `fast` and `slow`, whose steps take about 5 and 10 ms."""
    folder = tmp_path_factory.mktemp("made")
    name = script(folder, TRAINING)
    for run, wait in (("fast", "0.005"), ("slow", "0.010")):
        done = speedprof("run", "--name", run, "--warmup", "3", name, "80", wait, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout == b"ready\ntrained 80\n"
        assert b"80 steps on cpu" in done.stderr
    return folder


def _say(*arguments: str, cwd: Path, status: int = 0) -> str:
    done = speedprof(*arguments, cwd=cwd)
    assert done.returncode == status, done.stderr
    return done.stdout.decode() + done.stderr.decode()


def _folder(runs: Path, name: str) -> Path:
    (found,) = (runs / "speedprof-runs").glob(f"*-{name}")
    return found


def test_a_run_leaves_its_reports(runs: Path) -> None:
    folder = _folder(runs, "fast")
    report = json.loads((folder / "report.json").read_text())
    jsonschema.validate(report, to_json.schema())
    assert report["run"]["steps"] == 80
    assert report["phases"]["data_loading"]["share"] > 0.5
    assert "<!doctype html>" in (folder / "report.html").read_text().lower()[:100]
    assert not list(folder.glob("*.win"))


def test_report_shows_a_run_as_it_was_shown_at_its_end(runs: Path) -> None:
    text = _say("report", "fast", cwd=runs)
    assert "speedprof · fast" in text
    assert "80 steps on cpu" in text
    assert _folder(runs, "fast").name in text


def test_report_without_a_name_takes_the_newest(runs: Path) -> None:
    assert "speedprof · slow" in _say("report", cwd=runs)


def test_report_prints_json_and_nothing_else(runs: Path) -> None:
    report = json.loads(_say("report", "fast", "--json", cwd=runs))
    jsonschema.validate(report, to_json.schema())


def test_report_remakes_what_was_deleted_and_outlives_a_move(runs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(_folder(runs, "fast"), moved)
    (moved / "report.html").unlink()
    (moved / "report.json").write_text("{damaged")
    assert "80 steps" in _say("report", "moved", cwd=tmp_path)
    assert (moved / "report.html").is_file()
    assert json.loads((moved / "report.json").read_text())["format"] == 1


def test_report_refuses_a_run_of_a_newer_version(runs: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(_folder(runs, "fast"), newer)
    start = json.loads((newer / "run.json").read_text())
    (newer / "run.json").write_text(json.dumps({**start, "format": 99}))
    said = _say("report", "newer", cwd=tmp_path, status=2)
    assert said.startswith("speedprof: ")
    assert said.count("\n") == 1


def test_list_has_a_line_for_each_run(runs: Path) -> None:
    header, fast, slow = _say("list", cwd=runs).splitlines()
    assert header.split() == ["started", "run", "steps", "ms/step", "verdict"]
    assert "-fast" in fast
    assert "-slow" in slow
    assert all(" 80 " in line and "data loading" in line for line in (fast, slow))


def test_list_shows_what_is_left_of_damaged_and_killed_runs(runs: Path, tmp_path: Path) -> None:
    parent = tmp_path / "speedprof-runs"
    killed, damaged = parent / "1-killed", parent / "2-damaged"
    for copy in (killed, damaged):
        shutil.copytree(_folder(runs, "fast"), copy)
        (copy / "report.json").unlink()
    (killed / "end.json").unlink()
    (damaged / "run.json").write_text("")
    said = _say("list", cwd=tmp_path)
    assert "1-killed" in said
    assert "2-damaged" in said
    assert " 80 " in said


@pytest.mark.alone
def test_compare_tells_the_slower_run(runs: Path) -> None:
    said = _say("compare", "fast", "slow", cwd=runs)
    assert "A: fast" in said
    assert "B is slower by" in said
    assert "data loading" in said
    assert "B is faster by" in _say("compare", "slow", "fast", cwd=runs)


@pytest.mark.alone
def test_compare_fails_a_build_only_beyond_its_threshold(runs: Path) -> None:
    said = _say("compare", "fast", "slow", "--fail-if-slower", "5%", cwd=runs, status=1)
    assert "more than the 5 % allowed" in said
    _say("compare", "fast", "slow", "--fail-if-slower", "900%", cwd=runs)
    _say("compare", "slow", "fast", "--fail-if-slower", "0", cwd=runs)


@pytest.mark.alone
def test_compare_speaks_json(runs: Path) -> None:
    said = json.loads(_say("compare", "fast", "slow", "--json", cwd=runs))
    assert said["low"] < said["ratio"] < said["high"]
    assert 1.2 < said["ratio"] < 3
    assert said["phases"]["data_loading"]["b_ms"] > said["phases"]["data_loading"]["a_ms"]
    assert said["phases"]["communication"] == {"a_ms": None, "b_ms": None}
    assert said["slower_than_allowed"] is None


def test_a_threshold_that_is_none_is_refused(runs: Path) -> None:
    for wrong in ("much", "-5%", "nan"):
        assert "--fail-if-slower" in _say(
            "compare", "fast", "slow", f"--fail-if-slower={wrong}", cwd=runs, status=2
        )


def test_a_quiet_run_says_one_line(tmp_path: Path) -> None:
    name = script(tmp_path, TRAINING)
    done = speedprof("run", "--quiet", name, "40", "0.001", cwd=tmp_path)
    assert done.stdout == b"ready\ntrained 40\n"
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.decode().rstrip().endswith("report.html")


def test_a_run_for_ci_ends_with_one_line_of_json(tmp_path: Path) -> None:
    name = script(tmp_path, TRAINING)
    done = speedprof("run", "--json", name, "40", "0.001", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    said = json.loads(line)
    assert said["folder"] == str(only_run(tmp_path))
    assert (said["exit_status"], said["notes"]) == (0, [])
    jsonschema.validate(said["report"], to_json.schema())
    assert said["report"] == json.loads((only_run(tmp_path) / "report.json").read_text())


def test_a_run_is_ended_after_the_steps_asked_for(tmp_path: Path) -> None:
    name = script(tmp_path, TRAINING)
    options = ("--warmup", "5", "--stop-after", "20", "--json")
    done = speedprof("run", *options, name, "5000", "0.001", cwd=tmp_path)
    assert done.returncode == 0
    assert b"trained" not in done.stdout
    report = json.loads(done.stderr)["report"]
    assert 25 <= report["run"]["steps"] <= 30
    assert json.loads((only_run(tmp_path) / "end.json").read_text())["stopped_by_us"] is True


def test_an_interrupted_run_is_reported_as_unfinished(tmp_path: Path) -> None:
    with started("run", script(tmp_path, TRAINING), "100000", "0.002", cwd=tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait() == -signal.SIGINT
    assert "KeyboardInterrupt" in said
    assert "this is what was recorded until then" in " ".join(said.split())
    report = json.loads((only_run(tmp_path) / "report.json").read_text())
    assert report["run"]["exit_status"] == -signal.SIGINT
    assert report["run"]["steps"] >= 20


def test_a_loop_without_steps_is_told_how_to_mark_them(tmp_path: Path) -> None:
    text = (
        "import torch\nfrom torch.utils.data import DataLoader\n"
        "for batch in DataLoader(torch.ones(40, 2), batch_size=4): batch + 1\n"
    )
    done = speedprof("run", script(tmp_path, text), cwd=tmp_path)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("speedprof: no training step was seen")
    assert "10 batches from loaders" in line
    assert "speedprof.step(" in line


def test_explain_lists_every_remedy_and_explains_one(tmp_path: Path) -> None:
    from speedprof.mitigations.catalogue import CATALOGUE

    listed = _say("explain", cwd=tmp_path)
    assert all(mitigation.name in listed for mitigation in CATALOGUE)
    card = _say("explain", "pin-memory", cwd=tmp_path)
    assert card.startswith("pin-memory\n")
    assert "Safety: exact" in card
    assert "Treats: host_to_device: pageable_memory" in card
    assert "did you mean pin-memory" in _say("explain", "pin_memory", cwd=tmp_path, status=2)


def test_explain_filters_and_shows_the_taxonomy(tmp_path: Path) -> None:
    stored = _say("explain", "--bottleneck", "data loading: storage", cwd=tmp_path)
    assert "nearer-storage" in stored
    assert "tf32" not in stored
    assert stored == _say("explain", "--bottleneck", "storage", cwd=tmp_path)
    told = _say("explain", "--bottleneck", "tea", cwd=tmp_path, status=2)
    assert "no bottleneck is called 'tea'" in told
    assert "filters are for the list" in _say(
        "explain", "tf32", "--safety", "exact", cwd=tmp_path, status=2
    )
    none = _say("explain", "--action", "system", "--component", "data", cwd=tmp_path)
    assert "no remedy of the catalogue fits" in none
    grid = _say("explain", "taxonomy", cwd=tmp_path)
    assert all(word in grid for word in ("retrofit", "optimization", "larger-batch", "pin-memory"))
