"""Tracing stops once more windows would say nothing new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from speedprof.profiler.enough import NAME, tell_if_enough

STEADY = """
import time, torch
weight = torch.nn.Parameter(torch.randn(256, 256))
optimizer = torch.optim.SGD([weight], lr=0.01)
for step in range(400):
    time.sleep(0.004)
    loss = (weight @ weight).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_a_folder_without_a_run_is_not_enough(tmp_path: Path) -> None:
    assert not tell_if_enough(tmp_path)
    assert not (tmp_path / NAME).exists()


@pytest.mark.slow
def test_a_steady_run_is_traced_no_longer_than_it_takes(tmp_path: Path) -> None:
    (tmp_path / "steady.py").write_text(STEADY)
    command = [sys.executable, "-m", "speedprof", "run", "--name", "steady", "steady.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (folder,) = (tmp_path / "speedprof-runs").glob("*-steady")
    report = json.loads((folder / "report.json").read_text())
    widths = [phase["high"] - phase["low"] for phase in report["phases"].values()]
    if (folder / NAME).exists():
        assert len(list(folder.glob("window-*.json"))) >= 3
    else:
        assert len(list(folder.glob("window-*.json"))) >= 6 or max(widths) > 0.04
