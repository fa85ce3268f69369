"""What tune says at its end; it leaves its plan as a diff of the script, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from speedprof.commands import tune
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.outcome import save
from speedprof.mitigations.tuning.tuned import LATE, NO_TIME, Tried, Tuned
from speedprof.profiler.attribution import load
from speedprof.tests.launching import bare, only_run, speedprof

SCRIPT = """\
import torch
from torch.utils.data import DataLoader

data = [torch.full((8,), float(number % 7)) for number in range(400)]
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
for batch in DataLoader(data, batch_size=8):
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item())
"""
PLAN = (
    Remedy(name="loader-workers", parameters={"num_workers": 2, "persistent_workers": True}),
    Remedy(name="cache-samples", parameters={"budget_mb": 64}),
)


@pytest.mark.slow
def test_the_diff_is_what_patch_takes_and_the_script_then_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    done = speedprof("run", "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    before = load(only_run(tmp_path))
    tuned = Tuned(folder=tmp_path, plan=PLAN)
    plan = save(tuned, machine=None, torch=None)
    assert plan is not None
    told = tune._written(tuned, plan, before)
    first, second = told.splitlines()
    assert first == "Diff: plan.diff"
    assert second.startswith("  speedprof apply --plan plan.toml speedprof-runs/")
    patched = subprocess.run(
        ["patch", "-p1"], input=(tmp_path / "plan.diff").read_bytes(), cwd=tmp_path, check=True
    )
    assert patched.returncode == 0
    text = (tmp_path / "train.py").read_text()
    assert "num_workers=2" in text
    assert 'speedprof.apply("cache-samples=64")' in text
    after = bare(sys.executable, "train.py", cwd=tmp_path)
    assert after.returncode == 0, after.stderr.decode()
    assert b"cache-samples" in after.stderr  # what came of it
    (tmp_path / "train.py").write_text(f"{SCRIPT}# changed\n")
    assert tune._written(tuned, plan, before).startswith("No diff: train.py changed since this")


def test_what_was_not_tried_for_lack_of_time_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tuned = Tuned(folder=tmp_path, ended=NO_TIME)
    tuned.tried = [
        Tried(
            remedy=Remedy(name=name, parameters={}), predicted=None, measured=None, proof=None,
            kept=False, why=LATE, trials=(),
        )
        for name in ("tf32", "compile-model")
    ]  # fmt: skip
    tune._print(tuned, "train.py", None, quiet=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Not tried for lack of time: tf32, compile-model."
    assert second.startswith("No remedy was tried: measuring the script as it is took the time")
