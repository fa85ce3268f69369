"""After any automatic remedy, and after all of them, nothing differs and training is as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.applied.rivals import rival

pytest.importorskip("torchvision")

CHILD = Path(__file__).parent / "undone.py"
COMPILING = "compile-model"
EAGER = [name for name in AUTOMATIC if name != COMPILING]
FEWEST = 10_000  # attributes and states: torch, its classes, torchvision
PATIENCE_S = 540
BETWEEN_RANKS = ("no-sync", "bf16-gradients", "ddp-buckets", "set-epoch")


def together(names: list[str]) -> list[str]:
    """Return the names in as few groups as go together."""
    groups: list[list[str]] = []
    for name in names:
        room = next((group for group in groups if rival(name, group) is None), None)
        if room is None:
            groups.append(room := [])
        room.append(name)
    return [",".join(group) for group in groups]


def undone(folder: Path, *arguments: str, ranks: int = 1) -> dict[str, Any]:
    """Return what is left of remedies, as the first of the ranks tells it."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(ranks)},
        )
        for rank in range(ranks)
    ]
    said = [process.communicate(timeout=PATIENCE_S) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors[-4000:]
    told: dict[str, Any] = json.loads(said[0][0].splitlines()[-1])
    assert told["repeats"], "the bare training does not repeat itself"
    assert told["looked_at"] > FEWEST
    return told


def assert_nothing_is_left(trial: dict[str, Any]) -> None:
    assert trial["failures"] == []
    assert trial["remarks"] == []
    assert trial["differences"] == []
    assert trial["trained"]
    assert trial["equal"], "a bare training after it has other losses"


@pytest.fixture(scope="module")
def all_together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return undone(tmp_path_factory.mktemp("together"), *together(EAGER))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return undone(tmp_path_factory.mktemp("alone"), *EAGER)


@pytest.mark.parametrize("group", together(EAGER), ids=lambda group: f"{group.count(',') + 1}")
def test_remedies_that_were_taken_back_together_leave_nothing(
    group: str, all_together: dict[str, Any]
) -> None:
    assert_nothing_is_left(all_together["trials"][group])


def test_most_of_them_changed_something_meanwhile(all_together: dict[str, Any]) -> None:
    trials = all_together["trials"].values()
    worked = {name for one in trials for name, count in one["effects"].items() if count}
    said = {name for one in trials for name, notes in one["notes"].items() if notes}
    assert {"loader-workers", "fused-optimizer", "bf16-autocast", "ddp-buckets"} <= worked
    assert len(worked) > len(EAGER) / 2
    assert len(set(EAGER) - worked - said) < len(EAGER) / 4


@pytest.mark.slow
@pytest.mark.parametrize("name", EAGER)
def test_a_remedy_that_was_taken_back_leaves_nothing(name: str, alone: dict[str, Any]) -> None:
    assert_nothing_is_left(alone["trials"][name])


@pytest.mark.slow
def test_what_ranks_exchange_is_as_it_was(tmp_path: Path) -> None:
    groups = (*BETWEEN_RANKS, ",".join(BETWEEN_RANKS))
    told = undone(tmp_path, *groups, ranks=2)
    for group in groups:
        assert_nothing_is_left(told["trials"][group])
        assert all(told["trials"][group]["effects"].values()), told["trials"][group]["notes"]


@pytest.mark.slow
def test_a_compiled_model_that_was_taken_back_leaves_nothing(tmp_path: Path) -> None:
    groups = together(list(AUTOMATIC))
    told = undone(tmp_path, "--compiled", COMPILING, *groups)
    for group in (COMPILING, *groups):
        assert_nothing_is_left(told["trials"][group])
    assert told["trials"][COMPILING]["effects"] == {COMPILING: 1}
