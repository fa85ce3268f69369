"""Trainers of others, bare and measured: the same numbers, and as many steps as they count."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from speedprof.tests.in_process import facts
from speedprof.tests.transparency import UNAWARE, assert_same, both

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1"}


def _needs(package: str) -> pytest.MarkDecorator:
    absent = find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed (extra `frameworks`)")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("lightning_trainer.py", marks=_needs("lightning")),
        pytest.param("transformers_trainer.py", marks=_needs("transformers")),
        pytest.param("accelerate_loop.py", marks=_needs("accelerate")),
    ],
)
def test_a_trainer_trains_alike_and_its_steps_are_counted(tmp_path: Path, script: str) -> None:
    environment = {**OFFLINE, "TMPDIR": str(tmp_path)}
    bare, measured = both(UNAWARE, [script], out=tmp_path / "runs", environment=environment)
    assert bare.status == 0, bare.stderr.decode()
    assert_same(bare, measured)
    steps = int(bare.stdout.split()[1])
    assert measured.report["run"]["steps"] == steps
    assert facts(measured.folder, "note") == []
    (optimizer,) = facts(measured.folder, "optimizer")
    assert script.startswith(optimizer["trainer"])
    uses = {fact["number"]: fact for fact in facts(measured.folder, "loader_use")}
    (training,) = [use for use in uses.values() if use["role"] == "training"]
    assert 2 * steps <= training["batches"] <= 2 * steps + 4  # some trainers look ahead
