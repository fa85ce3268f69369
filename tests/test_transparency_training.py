"""Trainings of every make, bare and measured: workers, ranks, forks, profilers, odd habits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from speedprof.tests.in_process import facts
from speedprof.tests.transparency import UNAWARE, Outcome, assert_same, both

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)


def compared(tmp_path: Path, *arguments: str, options: tuple[str, ...] = ()) -> Outcome:
    bare, measured = both(UNAWARE, arguments, out=tmp_path, options=options)
    assert bare.status == 0, bare.stderr.decode()
    assert_same(bare, measured)
    return measured


def test_workers_of_every_kind_start_and_end_alike(tmp_path: Path) -> None:
    measured = compared(tmp_path, "workers.py")
    assert facts(measured.folder, "note") == []
    assert {fact["role"] for fact in facts(measured.folder, "loader_use")} >= {"training"}
    lines = [path.read_text("utf-8") for path in measured.folder.glob("worker-*.jsonl")]
    workers = {json.loads(line)["worker"] for text in lines for line in text.splitlines()}
    assert {-1, 0, 1} <= workers


@pytest.mark.parametrize("options", [(), ("--steps", "4")], ids=["to the end", "let go"])
def test_a_fork_inside_a_window_and_beside_it_goes_on(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    measured = compared(tmp_path, "forks.py", options=options)
    assert facts(measured.folder, "window")
    assert facts(measured.folder, "note") == []
    ended = facts(measured.folder, "end")
    assert max(fact["steps"] for fact in ended) >= 14


def test_the_scripts_own_profiler_sees_what_it_would(tmp_path: Path) -> None:
    measured = compared(tmp_path, "profiles.py")
    (why,) = facts(measured.folder, "no_window")
    assert "torch.profiler itself" in why["why"]
    assert measured.report["run"]["steps"] == 86


def test_odd_habits_do_no_harm(tmp_path: Path) -> None:
    measured = compared(tmp_path, "habits.py", options=("--warmup", "2"))
    assert [fact["text"] for fact in facts(measured.folder, "note")] == []


def test_ctrl_c_during_a_garbage_collection_is_not_lost(tmp_path: Path) -> None:
    compared(tmp_path, "collects.py")


@needs_gloo
def test_ranks_of_torchrun_train_alike_and_have_a_record_each(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", "ddp.py"]
    bare, measured = both(UNAWARE, command, whole=True, out=tmp_path)
    assert measured.stdout == bare.stdout
    assert measured.status == bare.status == 0, measured.stderr.decode()
    _two_ranks(measured)


@needs_gloo
def test_ranks_that_a_script_spawns_train_alike_and_have_a_record_each(tmp_path: Path) -> None:
    bare, measured = both(UNAWARE, ["ddp.py"], out=tmp_path)
    assert measured.stdout == bare.stdout
    assert measured.status == bare.status == 0, measured.stderr.decode()
    _two_ranks(measured)


def _two_ranks(measured: Outcome) -> None:
    run = measured.report["run"]
    assert (run["ranks"], run["steps"]) == (2, 20)
    told = {(fact["rank"], fact["world_size"]) for fact in facts(measured.folder, "rank")}
    assert {(0, 2), (1, 2)} <= told
    assert [fact["steps"] for fact in facts(measured.folder, "end")] == [20, 20]
