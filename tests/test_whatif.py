"""`speedprof whatif` on whole scripts: true ceilings, and nothing of the user's is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import COMMAND, environment, script, speedprof, wait_until

SCRIPTS = Path(__file__).parent / "scripts"
PATIENCE_S = 500
HABITS = '''"""Saves, logs and evaluates at every step, in every way that scripts have."""
import json
import logging
import os
import shutil

logging.basicConfig(filename="train.log", level=logging.INFO)  # before torch is there

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loader = DataLoader(TensorDataset(torch.randn(64, 8)), batch_size=2)
evaluation = DataLoader(TensorDataset(torch.randn(8, 8)), batch_size=4)
best = json.load(open("best.json"))["loss"]
os.makedirs("results", exist_ok=True)
kept = []
for epoch in range(3):
    for step, (batch,) in enumerate(loader):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            score = sum(model(batch).mean().item() for (batch,) in evaluation)
        model.train()
        logging.info("step %d: %f", step, score)
        torch.save(model.state_dict(), "last.ckpt")
        torch.save({"step": step}, "part.ckpt")
        os.replace("part.ckpt", "newest.ckpt")
        assert torch.load("newest.ckpt")["step"] == step
        save_file(model.state_dict(), "model.safetensors")
        assert load_file("model.safetensors")["weight"].equal(model.weight)
        with open("results/metrics.csv", "a") as file:
            file.write(f"{step},{score}\\n")
        folder = f"results/step-{epoch}-{step}"
        os.makedirs(folder)
        kept.append(folder)
        if len(kept) > 2:
            shutil.rmtree(kept.pop(0))
        assert sorted(os.listdir("results"))[-1].startswith("step-")
        json.dump({"loss": min(best, score)}, open("best.json", "w"))
        if os.path.exists("results/old.txt"):
            os.remove("results/old.txt")
'''


def whatif(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "whatif", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
        check=False,
    )


def measured(*arguments: str, cwd: Path) -> dict[str, Any]:
    """Return what the trials of a script showed."""
    done = whatif("--json", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ceiling(found: dict[str, Any], kind: str) -> dict[str, float]:
    (one,) = [one for one in found["ceilings"] if one["kind"] == kind]
    return one


def user_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return every file of the user's with its bytes and the moment of its last change."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else b"",
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if "speedprof-runs" not in path.parts
    }


@pytest.mark.slow
def test_a_script_that_saves_logs_and_evaluates_every_step_leaves_its_folder_as_it_was(
    tmp_path: Path,
) -> None:
    script(tmp_path, HABITS, "train.py")
    (tmp_path / "last.ckpt").write_bytes(b"an earlier training's")
    (tmp_path / "train.log").write_text("an earlier line\n")
    (tmp_path / "best.json").write_text('{"loss": 3.5}')
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "old.txt").write_text("old")
    before = user_files(tmp_path)
    found = measured("--steps", "12", "train.py", cwd=tmp_path)
    after = user_files(tmp_path)
    assert [trial["problem"] for trial in found["trials"]] == [None] * 4
    assert after == before
    (folder,) = (tmp_path / "speedprof-runs").glob("whatif-*")
    assert not list(folder.glob("*/scratch")), "what trials wrote is deleted"


@pytest.mark.alone
def test_a_storage_bound_script_has_a_high_ceiling_and_a_loader_as_slow_as_it(
    tmp_path: Path,
) -> None:
    shutil.copy(SCRIPTS / "storage.py", tmp_path)
    found = measured("--steps", "24", "storage.py", cwd=tmp_path)
    # 48 of about 49 ms are waited for; the rest is a tiny model's step
    free = ceiling(found, "replayed")
    assert free["low"] > 5
    assert [one["kind"] for one in found["trials"]] == ["real", "replayed", "real", "loader"]
    assert found["real"]["per_s"] < 1.3 * found["loader"]["per_s"]
    assert found["training"]["per_s"] > 5 * found["loader"]["per_s"]
    page = next((tmp_path / "speedprof-runs").glob("whatif-*/1-real/report.html"))
    assert "Measured ceilings" in page.read_text("utf-8")


@pytest.mark.alone
def test_a_compute_bound_script_gains_nothing_from_free_data(tmp_path: Path) -> None:
    source = (SCRIPTS / "arithmetic.py").read_text("utf-8")
    script(tmp_path, source.replace("512", "128"), "arithmetic.py")  # rows: shorter steps
    found = measured("--steps", "24", "arithmetic.py", cwd=tmp_path)
    free = ceiling(found, "replayed")
    assert free["low"] < 1.2, "nothing above 1 is told"
    assert free["high"] > 0.85
    assert found["loader"]["per_s"] > 5 * found["training"]["per_s"]


@pytest.mark.alone
def test_ranks_that_do_not_exchange_show_what_communication_costs(tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "transfer.py", tmp_path)
    ranks = ("torchrun", "--standalone", "--nproc-per-node", "2")
    found = measured("--steps", "24", "--", *ranks, "transfer.py", cwd=tmp_path)
    assert ceiling(found, "no_communication")["low"] > 1.3
    assert {one["kind"] for one in found["missing"]} == {"replayed", "on_device", "loader"}


@pytest.mark.slow
def test_a_script_that_fails_is_a_reason_with_its_last_line(tmp_path: Path) -> None:
    script(tmp_path, "import torch\nraise ValueError('no data in /data')\n")
    done = whatif("script.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "ValueError: no data in /data" in done.stdout
    assert "exit status 1" in done.stdout


@pytest.mark.slow
def test_a_script_that_hangs_is_ended_at_the_limit(tmp_path: Path) -> None:
    script(tmp_path, "import time\ntime.sleep(600)\n")
    done = whatif("--limit", "3", "script.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "ended at its limit of 3 s" in done.stdout


@pytest.mark.slow
def test_ctrl_c_ends_the_trial_and_keeps_what_is_known(tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "storage.py", tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "whatif", "storage.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    runs = tmp_path / "speedprof-runs"
    wait_until(lambda: list(runs.glob("whatif-*/2-replayed/rank-*.rec")), "a second trial")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in said
    (folder,) = runs.glob("whatif-*")
    found = json.loads((folder / "whatif.json").read_text())
    assert not found["finished"]
    assert found["real"]["per_s"] > 0


def test_a_script_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = speedprof("whatif", "missing.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(b"speedprof: no script missing.py")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    script(tmp_path, "import torch\n")
    (tmp_path / "file").write_text("")
    done = speedprof("whatif", "--out", "file", "script.py", cwd=tmp_path)
    assert done.returncode == 2
    assert b"name another folder with --out DIR" in done.stderr
    assert len(done.stderr.splitlines()) == 1
