"""A rewritten script trains as the script does under the plan that was written into it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from speedprof.mitigations.plan_files import PlanFile, Remedy, write
from speedprof.tests.launching import bare, speedprof

EXAMPLE = Path(__file__).parent.parent / "examples" / "imagefolder.py"
SMALL = ("--files", "64", "--image-size", "64", "--batch-size", "8", "--epochs", "2")
# Nothing whose arithmetic depends on where it begins and ends, as autocast's; and no workers that
# persist: torch's own draw a number less in each epoch, those of a plan keep the script's order.
PLAN = PlanFile(
    remedies=(
        Remedy(name="loader-workers", parameters={"num_workers": 2, "persistent_workers": False}),
        Remedy(name="fused-optimizer", parameters={}),
        Remedy(name="fewer-threads", parameters={"threads": 1}),
        Remedy(name="collect-garbage-less", parameters={}),
        Remedy(name="tf32", parameters={"precision": "high"}),
    )
)

pytestmark = pytest.mark.slow


def losses(said: bytes) -> list[str]:
    found = re.findall(r"loss (\d+\.\d+), accuracy (\d+)", said.decode())
    assert len(found) == 2, said
    return [" ".join(one) for one in found]


def test_the_written_script_trains_as_the_plan_does(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    shutil.copy(EXAMPLE, tmp_path / "train.py")
    plain = bare(sys.executable, "train.py", *SMALL, cwd=tmp_path)  # draws the images, too
    assert plain.returncode == 0, plain.stderr.decode()
    (tmp_path / "plan.toml").write_text(write(PLAN), "utf-8")
    under = speedprof(
        *("run", "--name", "under", "--apply", "plan.toml", "train.py", *SMALL), cwd=tmp_path
    )
    assert under.returncode == 0, under.stderr.decode()
    (report,) = tmp_path.glob("speedprof-runs/*under/report.json")
    worked = {one["name"] for one in json.loads(report.read_text())["applied"] if one["effects"]}
    assert worked >= {"loader-workers", "fused-optimizer", "tf32"}
    written = speedprof("apply", "--plan", "plan.toml", "--write", cwd=tmp_path)
    said = written.stderr.decode()
    assert written.returncode == 0, said
    for one in PLAN.remedies:
        assert f"{one.name}: written" in said
    rewritten = bare(sys.executable, "train.py", *SMALL, cwd=tmp_path)
    assert rewritten.returncode == 0, rewritten.stderr.decode()
    assert losses(rewritten.stdout) == losses(under.stdout)
    assert losses(rewritten.stdout) != losses(plain.stdout)  # other random draws, by workers
    before = bare(sys.executable, "train.py.orig", *SMALL, cwd=tmp_path)
    assert losses(before.stdout) == losses(plain.stdout)


def test_exact_remedies_leave_every_loss_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    shutil.copy(EXAMPLE, tmp_path / "train.py")
    plain = bare(sys.executable, "train.py", *SMALL, cwd=tmp_path)
    speedprof("run", "train.py", *SMALL, cwd=tmp_path)
    line = "collect-garbage-less"
    under = speedprof("run", "--apply", line, "train.py", *SMALL, cwd=tmp_path)
    written = speedprof("apply", "--remedy", line, "--write", cwd=tmp_path)
    assert f"{line}: written" in written.stderr.decode()
    rewritten = bare(sys.executable, "train.py", *SMALL, cwd=tmp_path)
    assert losses(plain.stdout) == losses(under.stdout) == losses(rewritten.stdout)
