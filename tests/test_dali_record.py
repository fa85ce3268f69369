"""What a run tells of loading by DALI: the table of transforms, and what batches cost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import folder  # noqa: E402

from speedprof.mitigations.dali.batches import Read  # noqa: E402
from speedprof.mitigations.dali.costs import FOLDER, LOADER, Ledger, ledger  # noqa: E402
from speedprof.mitigations.dali.threads import Spent, spent  # noqa: E402
from speedprof.profiler.attribution import load  # noqa: E402
from speedprof.profiler.loaders import costs  # noqa: E402

SCRIPT = """
import sys, torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
chain = transforms.Compose([
    transforms.RandomResizedCrop(64), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
])
refused = transforms.Compose([transforms.Lambda(lambda x: x), chain])
model = nn.Sequential(nn.Flatten(), nn.Linear(64 * 64 * 3, 3))
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
loader = DataLoader(ImageFolder(sys.argv[1], chain), 4, shuffle=True)
for _epoch in range(8):
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
next(iter(DataLoader(ImageFolder(sys.argv[1], refused), 4, shuffle=True)))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a script under the remedy; return the run's folder and what the terminal said."""
    here = tmp_path_factory.mktemp("run")
    (here / "train.py").write_text(SCRIPT)
    data = folder(here / "images", each=16, kind="jpg")
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "speedprof", "run", "--no-windows"),
            *("--apply", "dali-loading", "train.py", str(data)),
        ],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    (told,) = (here / "speedprof-runs").glob("*/report.json")
    return told.parent, ended.stdout + ended.stderr


def report(run: tuple[Path, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run[0] / "report.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_each_transform_is_told_in_the_json_and_on_the_page(run: tuple[Path, str]) -> None:
    page = (run[0] / "report.html").read_text(encoding="utf-8")
    for text in (json.dumps(report(run)["applied"]), page):
        assert "RandomResizedCrop as a decoder or slice of that region, then resize" in text
        assert "RandomHorizontalFlip as flip" in text
        assert "ToTensor as crop_mirror_normalize" in text
        assert "Lambda refused: it is a function of the script" in text


@pytest.mark.slow
def test_the_terminal_shows_the_table_too(run: tuple[Path, str]) -> None:
    said = " ".join(run[1].split())
    assert "RandomHorizontalFlip as flip" in said
    assert "none has a time of its own" in said


@pytest.mark.slow
def test_what_a_batch_costs_is_measured_in_dalis_threads(run: tuple[Path, str]) -> None:
    training = load(run[0]).training_loader()
    assert training is not None
    assert (training.getitem_cpu_ms or 0) > 0.1
    assert (training.getitem_ms or 0) >= (training.getitem_cpu_ms or 0)
    assert (training.collate_ms or 0) < (training.getitem_ms or 0)
    assert (training.read_bytes or 0) > 1000
    assert training.storage_wait_ms is not None
    assert training.transforms == []


def test_a_ledger_adds_up_all_threads(tmp_path: Path) -> None:
    kept = Ledger(str(tmp_path), 3)
    read = Read(read_bytes=500, waited_ns=7)
    kept.made(4, Spent(90, 20, 5), Spent(0, 30, 10), read)
    kept.made(4, Spent(90, 20, 5), Spent(0, 30, 10), read)
    kept.collated(Spent(6, 4, 0))
    kept.flush()
    found, damaged = costs(tmp_path.glob("worker-*.jsonl"))
    assert damaged == 0
    assert found[3].per_batch("getitem_cpu_ns") == 50
    assert found[3].per_batch("queued_ns") == 15
    assert found[3].per_batch("getitem_ns") == 72
    assert found[3].per_batch("read_bytes") == 500


def test_without_a_record_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    assert ledger() is None
    monkeypatch.setenv(FOLDER, "/nowhere")
    monkeypatch.delenv(LOADER, raising=False)
    assert ledger() is None


def test_a_ledger_that_cannot_be_written_ends_quietly(tmp_path: Path) -> None:
    kept = Ledger(str(tmp_path / "gone"), 1)
    for _batch in range(3):
        kept.made(1, Spent(), Spent(), Read())
    kept.flush()
    assert list(tmp_path.iterdir()) == []


def test_a_thread_that_computes_does_not_wait() -> None:
    before = spent()
    sum(number * number for number in range(300_000))
    cost = spent() - before
    assert cost.cpu_ns > 0
    assert cost.waited_ns < cost.wall_ns
