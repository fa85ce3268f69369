"""What a script prepares before its first step is there for the trials after the first one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from speedprof.mitigations.rewrite.targets import targets
from speedprof.mitigations.tuning.proof import same
from speedprof.mitigations.tuning.trial import Length, Trials
from speedprof.mitigations.tuning.tuned import Order
from speedprof.mitigations.tuning.tuner import Tuner
from speedprof.profiler import interpreter, prepared_files, trials, whatif
from speedprof.profiler.attribution import load
from speedprof.profiler.prepared_files import Prepared
from speedprof.profiler.trials.overlay import FILES

SCRIPT = """
import time
from pathlib import Path
import torch
from torch.utils.data import DataLoader

data = Path("cache/data.pt")
if not data.exists():
    print("preparing", torch.rand(1).item())  # moves the numbers that are drawn from here on
    data.parent.mkdir()
    torch.save(torch.rand(64, 8), data)
PREPARING
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
log = open("log.txt", "a")
for epoch in range(1000):
    for step, batch in enumerate(DataLoader(torch.load(data), batch_size=8, shuffle=True)):
        time.sleep(0.005)
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.write(f"{step}\\n")
        log.flush()
    Path("checkpoint.pt").write_text("of this trial")
"""
WRITES_ONCE = 'open("run.yaml", "x").close(); open("run.yaml", "a").write("lr: 1e-3")'
SHORT = Length(steps=16, least_s=0.5, most_s=4.0)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], interpreter.Target]:
    monkeypatch.chdir(tmp_path)

    def made(preparing: str) -> interpreter.Target:
        (tmp_path / "train.py").write_text(SCRIPT.replace("PREPARING", preparing))
        return interpreter.script(["train.py"], sys.executable)

    return made


def trials_of(target: interpreter.Target, parent: Path) -> Trials:
    folder = parent / "tune"
    folder.mkdir()
    return Trials(target=target, folder=folder, length=SHORT, tell=lambda _: None)


@pytest.mark.slow
def test_data_is_prepared_once_and_logs_and_checkpoints_begin_anew(
    tmp_path: Path, script: Callable[[str], interpreter.Target]
) -> None:
    asks = 'print("left behind:", [p for p in ("log.txt", "checkpoint.pt") if Path(p).exists()])'
    tuning = trials_of(script(asks), tmp_path)
    made = [tuning.run((), name) for name in ("as it is", "again", "third")]
    assert [one.problem for one in made] == [None, None, None]
    said = [(one.folder / "output.txt").read_text() for one in made]
    assert ["preparing" in text for text in said] == [True, False, False]
    assert all("left behind: []" in text for text in said)
    assert same(made[1].losses, made[2].losses)
    assert not same(made[0].losses, made[1].losses)
    assert not (tmp_path / "cache").exists()  # the user's folder is as it was
    assert not any((one.folder / "scratch").exists() for one in made)


@pytest.mark.slow
def test_a_script_that_does_not_want_to_find_its_files_prepares_them_each_time(
    tmp_path: Path, script: Callable[[str], interpreter.Target]
) -> None:
    target = script(WRITES_ONCE)
    tuning = Tuner(
        Order(target=target, parent=tmp_path, budget_s=30.0, length=SHORT), lambda _: None
    )
    tuned = tuning.run()
    first, again, alone = sorted(tuned.folder.glob("0[123]-*"))
    assert "FileExistsError" in (again / "output.txt").read_text()
    assert "preparing" in (first / "output.txt").read_text()
    assert "preparing" in (alone / "output.txt").read_text()
    assert not (tuned.folder / "prepared").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preparing", "anew"),
    [("", False), (WRITES_ONCE, True)],
)
def test_ceilings_are_measured_on_what_the_first_trial_prepared(
    preparing: str, anew: bool, tmp_path: Path, script: Callable[[str], interpreter.Target]
) -> None:
    order = whatif.Order(target=script(preparing), parent=tmp_path, steps=16)
    outcome, found = whatif.measure(order, lambda _: None)
    assert [(one.kind, one.problem) for one in outcome.trials] == [
        (trials.REAL, None),
        (trials.REPLAYED, None),
        (trials.REAL, None),
        (trials.LOADER, None),
    ]
    said = [(one.folder / "output.txt").read_text() for one in outcome.trials]
    assert ["preparing" in text for text in said] == [True, anew, anew, anew]
    assert found.ceilings
    assert not outcome.prepared.there


def test_only_what_was_last_changed_before_the_first_step_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "scratch" / FILES / "home"
    files.mkdir(parents=True)
    (files / "data.bin").write_bytes(b"data")
    (files / "old.bin").write_bytes(b"unpacked")
    (files / "log.txt").write_text("begun before\n")
    time.sleep(0.05)
    first = time.time_ns()
    monkeypatch.setattr(prepared_files, "first_step_ns", lambda _: first)
    time.sleep(0.05)
    with (files / "log.txt").open("a") as log:
        log.write("step 1\n")
    os.utime(files / "log.txt", (0, 0))  # its time of last change is not what can be set
    (files / "checkpoint.pt").write_bytes(b"model")
    prepared = Prepared(folder=tmp_path / "prepared")
    prepared.keep(tmp_path / "scratch", tmp_path)
    (tmp_path / "next").mkdir()
    prepared.lay(tmp_path / "next")
    assert sorted(one.name for one in (tmp_path / "next" / FILES / "home").iterdir()) == [
        "data.bin",
        "old.bin",
    ]
    prepared.forget()
    assert not prepared.there


@pytest.mark.parametrize("what", ["link", "large", "no step"])
def test_what_cannot_be_told_or_is_too_large_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    files = tmp_path / "scratch" / FILES
    files.mkdir(parents=True)
    (files / "data.bin").write_bytes(b"data")
    if what == "link":
        (files / "latest").symlink_to("data.bin")
    if what == "large":
        monkeypatch.setattr(prepared_files, "MOST_BYTES", 3)
    later = None if what == "no step" else time.time_ns() + 10**9
    monkeypatch.setattr(prepared_files, "first_step_ns", lambda _: later)
    prepared = Prepared(folder=tmp_path / "prepared")
    prepared.keep(tmp_path / "scratch", tmp_path)
    assert not prepared.there
    prepared.lay(tmp_path / "scratch")  # nothing to lay


def test_a_full_disk_leaves_the_trial_to_prepare_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(folder=tmp_path / "prepared")
    prepared.folder.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared_files.shutil, "copytree", full)
    prepared.lay(tmp_path)
    assert not prepared.there


@pytest.mark.slow
def test_a_trial_remembers_which_script_it_ran(
    tmp_path: Path, script: Callable[[str], interpreter.Target]
) -> None:
    run = load(trials_of(script(""), tmp_path).run((), "as it is").folder)
    (tmp_path / "train.py").touch()  # written anew, with the same text
    assert targets(run).files[0].source.path.name == "train.py"
