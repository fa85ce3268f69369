"""The examples are real training: they learn, and speedprof says of each what is true of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import planted
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.slow


def _losses(said: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", said)]


def _output(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _report(folder: Path, *order: str) -> dict[str, object]:
    return planted.report_of(planted.run(folder, *order))


@pytest.mark.alone
def test_images_with_no_workers_are_bound_by_their_preparation(tmp_path: Path) -> None:
    script = str(EXAMPLES / "imagefolder.py")
    _output(tmp_path, sys.executable, script, "--files", "120", "--epochs", "0")
    report = _report(tmp_path, script, "--steps", "40", "--epochs", "10", "--workers", "0")
    assert planted.verdict(report) == "data_loading: cpu_preparation", planted.told(report)


def test_the_small_gpt_learns(tmp_path: Path) -> None:
    script = str(EXAMPLES / "charlm.py")
    said = _output(tmp_path, sys.executable, script, "--steps", "120", "--evaluate-every", "20")
    losses = _losses(said)
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.alone
def test_gradients_over_gloo_are_bound_by_their_transfer(tmp_path: Path) -> None:
    script = str(EXAMPLES / "ddp.py")
    report = _report(tmp_path, *planted.torchrun(2), script, "--steps", "60")
    assert planted.verdict(report) == "communication: transfer", planted.told(report)


@pytest.mark.parametrize("option", ["--amp", "--channels-last"])
def test_the_image_example_trains_with_its_options(option: str, tmp_path: Path) -> None:
    script = str(EXAMPLES / "imagefolder.py")
    small = ("--files", "64", "--image-size", "64", "--epochs", "1", "--workers", "2")
    assert _losses(_output(tmp_path, sys.executable, script, *small, option))
