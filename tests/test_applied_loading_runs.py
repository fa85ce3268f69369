"""`speedprof run --apply` of loading remedies, as a user runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import bare, speedprof

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

SCRIPT = """\
import os, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

class Samples(Dataset):
    made = 0
    def __len__(self):
        return 64
    def __getitem__(self, index):
        self.made += 1
        if get_worker_info() is not None and self.made > {after}:
            {failure}
        {work}
        return torch.full((8,), float(index)) / 64, index % 2

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for inputs, labels in DataLoader(Samples(), 4, shuffle=True):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())
"""
KEEPING = SCRIPT.replace("self.made += 1", "pass").replace(
    "for epoch", "data = Samples()\nfor epoch"
)
KEEPING = KEEPING.replace("DataLoader(Samples(),", "DataLoader(data,")


def applied(folder: Path, script: str, *plan: str) -> tuple[bytes, list[dict[str, Any]]]:
    """Run a script bare and under a plan; return what was printed, and what came of it."""
    path = folder / "train.py"
    path.write_text(script)
    own = bare(sys.executable, str(path), cwd=folder)
    assert own.returncode == 0, own.stderr
    ended = speedprof("run", "--no-windows", "--apply", ",".join(plan), str(path), cwd=folder)
    assert ended.returncode == 0, ended.stderr
    printed = [line for line in ended.stdout.splitlines() if line[:1].isdigit()]
    assert printed[: 3 * 16] == own.stdout.splitlines()
    (report,) = (folder / "speedprof-runs").glob("*/report.json")
    told = json.loads(report.read_text())
    assert "failed and was switched off" not in report.read_text()
    return ended.stdout, told["applied"]


@pytest.mark.parametrize(
    ("after", "failure"),
    [
        (0, "raise RuntimeError('Cannot re-initialize CUDA in forked subprocess')"),
        (20, "os.kill(os.getpid(), 9)"),
    ],
)
def test_workers_that_fail_do_not_end_the_run(tmp_path: Path, after: int, failure: str) -> None:
    script = SCRIPT.format(after=after, failure=failure, work="")
    _, (one,) = applied(tmp_path, script, "loader-workers")
    assert one["effects"] == 0
    assert "a loader of Samples lost its workers again" in one["notes"][0]


@pytest.mark.parametrize("plan", [("cache-samples",), ("cache-samples", "loader-workers=2")])
def test_samples_are_kept_from_epoch_to_epoch(tmp_path: Path, plan: tuple[str, ...]) -> None:
    script = KEEPING.format(after=0, failure="pass", work="time.sleep(0.005)")
    _, found = applied(tmp_path, script, *plan)
    cache = next(one for one in found if one["name"] == "cache-samples")
    assert cache["effects"] >= 2 * 64 - 1  # one of 128 is made and compared
    assert "64 samples of Samples were kept and read" in cache["notes"][0]


def test_a_run_that_ends_in_its_first_epoch_says_that_keeping_did_nothing(tmp_path: Path) -> None:
    script = KEEPING.replace("range(3)", "range(1)")
    script = script.format(after=0, failure="pass", work="time.sleep(0.005)")
    _, (cache,) = applied(tmp_path, script, "cache-samples")
    assert cache["effects"] == 0
    assert cache["notes"][0] == (
        "64 samples of Samples were kept, and none was read again; there was one pass only, and "
        "what is kept pays from the second one on"
    )
