"""`speedprof roofs` as a person meets it: what it says, keeps, refuses and tidies up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pages import parse
from roofs_made import roofs

from speedprof.profiler.roofs import cache
from speedprof.profiler.roofs.machine import this_machine
from speedprof.profiler.roofs.roofs import Roofs
from speedprof.reports import roofs_page, roofs_rows, roofs_text
from speedprof.tests.launching import COMMAND, environment, only_run, script, speedprof, wait_until

torch = pytest.importorskip("torch")

NO_PYTHON = ("--python", "/nowhere/python")  # nothing can be measured with it


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Roofs:
    """Keep roofs for this machine where no others are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ours = roofs(machine=this_machine().id)
    cache.write(ours)
    return ours


@pytest.fixture
def unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Know nothing of this machine; return where it would be kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache.path(this_machine().id)


def _said(*arguments: str, cwd: Path, status: int = 0, **changes: str) -> tuple[str, str]:
    done = speedprof("roofs", *arguments, cwd=cwd, **changes)
    assert done.returncode == status, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


@pytest.mark.usefixtures("kept")
def test_what_is_known_is_shown_and_nothing_measured(tmp_path: Path) -> None:
    table, errors = _said(*NO_PYTHON, cwd=tmp_path)
    assert "lab-3" in table
    assert "a roof is the best that was seen" in " ".join(table.split())
    assert "1,700" in table
    assert errors == ""


def test_json_is_what_is_kept(kept: Roofs, tmp_path: Path) -> None:
    told, _ = _said("--json", *NO_PYTHON, cwd=tmp_path)
    assert json.loads(told) == json.loads(cache.encoded(kept))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("ending", ["html", "svg"])
def test_a_picture_is_written_where_it_was_asked_for(tmp_path: Path, ending: str) -> None:
    _said("--out", f"roofs.{ending}", *NO_PYTHON, cwd=tmp_path)
    text = (tmp_path / f"roofs.{ending}").read_text("utf-8")
    assert "Copying 256 MiB to the GPU" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("options", [["--again"], ["--only", "memory"]])
def test_what_is_asked_for_again_is_measured_again(tmp_path: Path, options: list[str]) -> None:
    _, errors = _said(*options, *NO_PYTHON, cwd=tmp_path, status=2)
    assert errors.startswith("speedprof: --python /nowhere/python does not exist")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--storage", "nowhere"], "--storage nowhere is no folder"),
        (["--out", "roofs.pdf"], "--out roofs.pdf is neither .html nor .svg"),
        (["--out", "nowhere/roofs.svg"], "there is no folder nowhere"),
    ],
)
@pytest.mark.usefixtures("kept")
def test_what_cannot_work_is_refused_in_a_sentence(
    tmp_path: Path, options: list[str], why: str
) -> None:
    out, errors = _said(*options, cwd=tmp_path, status=2)
    assert out == ""
    assert errors.count("\n") == 1
    assert why in errors


def test_an_unknown_part_is_told_what_there_is(tmp_path: Path) -> None:
    _, errors = _said("--only", "disk", cwd=tmp_path, status=2)
    assert "'storage'" in errors
    assert "'all-reduce'" in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "are damaged; measuring anew"),
        (
            cache.encoded(roofs(machine="another")),
            "another machine (lab-3, an x86 CPU); measuring",
        ),
    ],
    ids=["damaged", "another machine's"],
)
def test_a_cache_that_is_not_to_be_trusted_is_said_and_measured_anew(
    unknown: Path, tmp_path: Path, content: str, sentence: str
) -> None:
    unknown.parent.mkdir(parents=True)
    unknown.write_text(content)
    table, errors = _said("--only", "dispatch", cwd=tmp_path)
    assert sentence in errors
    assert errors.count("\n") == 1
    assert "Starting operators" in table
    found, why = cache.load(unknown)
    assert why is None
    assert found is not None
    assert set(found.measured_at) == {"dispatch"}


@pytest.mark.slow
@pytest.mark.usefixtures("unknown")
def test_a_cache_that_cannot_be_written_loses_nothing_else(tmp_path: Path) -> None:
    table, errors = _said("--only", "dispatch", cwd=tmp_path, XDG_CACHE_HOME="/proc/nowhere")
    assert "Starting operators" in table
    assert errors.startswith("speedprof: the roofs could not be kept (")
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_a_full_disk_is_refused_and_left_as_it_was(unknown: Path, full_disk: Path) -> None:
    table, _ = _said("--only", "storage", "--storage", str(full_disk), cwd=full_disk.parent)
    assert "make room, or name another folder with --storage DIR" in " ".join(table.split())
    assert list(full_disk.iterdir()) == []
    assert unknown.is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize("how", ["Ctrl-C", "kill", "kill -9"])
def test_an_interrupted_measurement_leaves_nothing_behind(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "roofs", "--only", "storage", "--storage", str(folder)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=os.setpgrp,  # noqa: PLW1509 - process_group is not in Python 3.10
    )
    wait_until(lambda: list(folder.glob("*/large")), "the test never began to write")
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM if how == "kill" else signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in errors
    wait_until(lambda: not list(folder.iterdir()), "the scratch folder stayed")


@pytest.mark.slow
def test_a_run_is_shown_beside_the_roofs_that_are_known(kept: Roofs, tmp_path: Path) -> None:
    name = script(
        tmp_path,
        "import torch\n"
        "model = torch.nn.Linear(64, 64)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for _ in range(60):\n"
        "    optimizer.zero_grad()\n"
        "    model(torch.ones(64, 64)).sum().backward()\n"
        "    optimizer.step()\n",
    )
    done = speedprof("run", name, cwd=tmp_path)
    assert done.returncode == 0
    folder = only_run(tmp_path)
    assert cache.load(folder / cache.FILE) == (kept, None)
    report = json.loads((folder / "report.json").read_text())
    assert "operators" in {place["name"] for place in report["roofs"]["places"]}
    assert "This run beside the roofs" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_ranks_of_torchrun_measure_their_own_all_reduce(unknown: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ranks = [*launcher, "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [*ranks, *COMMAND, "roofs", "--json", "--only", "all-reduce"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)  # of one rank alone
    (exchanged,) = told["all_reduce"]
    assert exchanged["ranks"] == 2
    assert exchanged["backend"] == ("nccl" if torch.cuda.is_available() else "gloo")
    assert unknown.is_file()


def test_all_that_was_measured_is_in_the_table() -> None:
    text = roofs_text.render(roofs(), width=100)
    for group in roofs_rows.groups(roofs()):
        assert group.title in text
        assert group.unit in text
    assert "roof" in text.splitlines()[3]
    assert max(map(len, text.splitlines())) <= 100


def test_a_narrow_terminal_loses_no_number() -> None:
    text = roofs_text.render(roofs(), width=20)
    assert max(map(len, text.splitlines())) <= roofs_text.NARROWEST
    for group in roofs_rows.groups(roofs()):
        for _, level in group.rows:
            assert roofs_rows.wording.number(level.best) in text


def test_small_rates_are_told_in_a_smaller_unit() -> None:
    units = {group.title: group.unit for group in roofs_rows.groups(roofs())}
    assert units["Matrix products, CPU"] == "GFLOP/s"
    assert units["Matrix products, GPU"] == "TFLOP/s"


def test_busy_machines_and_warm_files_are_remarked_on() -> None:
    assert roofs_rows.remarks(roofs()) == []
    busy = roofs(other_cores={"memory": 0.1, "matmul": 1.2}, present_cores=2)
    (remark,) = roofs_rows.remarks(busy)
    assert remark.startswith("other programs used up to 1.2 of 2 cores meanwhile (at matmul)")
    import msgspec

    warm = msgspec.structs.replace(roofs().storage[0], cold=0.0)
    (remark,) = roofs_rows.remarks(roofs(storage=[warm]))
    assert "stayed in memory (100 % of the pages)" in remark


def test_what_is_absent_is_told_once_for_each_reason() -> None:
    absent = {"matmul: cuda": "no GPU", "copies": "no GPU", "decode: dali": "not here"}
    assert roofs_rows.missing(roofs(absent=absent)) == [
        ("matmul on a GPU, copies", "no GPU"),
        ("decode: dali", "not here"),
    ]


def test_the_picture_is_well_formed_and_tells_what_it_shows() -> None:
    root = ET.fromstring(roofs_page.svg(roofs()))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    title, description = (
        root.find(f"{{http://www.w3.org/2000/svg}}{tag}") for tag in ("title", "desc")
    )
    assert title is not None
    assert title.text == "What this machine can do at best"
    assert description is not None
    assert "Matrix products, GPU" in (description.text or "")


def test_the_page_shows_hostile_names_as_text() -> None:
    named = roofs(node="<script>alert(1)</script>", absent={"x": "<b>\u202ewhy"})
    elements = parse(roofs_page.html(named))
    assert not any(element.tag in ("script", "b") for element in elements)
    assert any("<script>alert(1)</script>" in element.text for element in elements)
    assert not any("\u202e" in element.text for element in elements)


def test_the_pages_table_has_every_number_of_the_picture() -> None:
    elements = parse(roofs_page.html(roofs()))
    rows = [e for e in elements if e.tag == "tr"]
    assert len(rows) == 1 + sum(len(group.rows) for group in roofs_rows.groups(roofs()))
