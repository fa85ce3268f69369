"""From a run folder to a Run, whatever is left of the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from run_folders import UNIX, Folder, process, row, rows
from window_cases import GLOO, Case

from speedprof.profiler.attribution import load
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.run import PHASES, Run

LOADER = (
    "loader",
    {"number": 0, "where": "/home/me/train.py:41", "dataset": "ImageFolder", "iterable": False,
     "length": 640, "batch_size": 32, "num_workers": 2, "pin_memory": False,
     "persistent_workers": False, "prefetch_factor": 2, "explicit": ["batch_size"]},
)  # fmt: skip
USE = (
    "loader_use",
    {"number": 0, "role": "training", "batches": 20, "iterations": 2, "wait_ns": 60_000_000,
     "startup_ns": 30_000_000, "first_batch_ns": 50_000_000, "batch_bytes": 4096},
)  # fmt: skip
TELEMETRY = {
    "loader": 0, "worker": 0, "batches": 4, "samples": 128, "at": UNIX,
    "getitem_ns": 400_000_000, "getitem_cpu_ns": 100_000_000,
    "collate_ns": 20_000_000, "collate_cpu_ns": 20_000_000,
    "queued_ns": 40_000_000, "read_bytes": 4000, "disk_bytes": -1,
    "transforms": {"Resize": [90_000_000, 30], "Flip": [1_000_000, 10]},
}  # fmt: skip
END = ("end", {"steps": 20, "step_definition": "an optimizer update"})
STEPS = {"backward": 5.0, "optimizer": 1.0, "batches": 1, "samples": 32, "updates": 1}


def computing(*, first_step: int = 4, step: float = 10.0) -> Case:
    case = Case([0, step, 2 * step], first_step=first_step)
    return case.event("aten::mm", 0, 8).event("aten::mm", step, step + 8)


def whole(path: Path) -> Folder:
    folder = Folder(path).end()
    folder.record(rows([10.0] * 20, **STEPS), LOADER, USE, END)
    (path / "worker-node-7.jsonl").write_text(json.dumps(TELEMETRY) + "\n")
    return folder.window(computing())


def test_a_whole_run_is_read_wholly(tmp_path: Path):
    run = load(whole(tmp_path).path)
    assert (run.name, run.command, run.cwd) == ("train", ["train.py"], "/home/me")
    assert (run.finished, run.exit_status, run.wall_s) == (True, 0, 9.0)
    assert (run.steps, run.warmup_steps, run.windows) == (20, 2, 1)
    assert (run.updates_per_step, run.batches_per_step) == (1.0, 1.0)
    assert run.step_definition == "an optimizer update"
    assert run.startup_s == pytest.approx(3.0)
    assert run.step_ms is not None
    assert run.step_ms.count == 18
    assert run.step_ms.samples_per_s == pytest.approx(3200.0)
    assert run.phases is not None
    assert set(run.phases) == set(PHASES)
    assert run.phases["compute"].share == pytest.approx(0.8)
    assert run.compute is not None
    assert run.compute.bound == "arithmetic"
    assert run.compute.kinds == {"matmul": pytest.approx(8.0)}
    assert run.notes == []
    assert run.input_kind == "loader"


def test_a_run_goes_to_json_and_back(tmp_path: Path):
    run = load(whole(tmp_path).path)
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run


def test_a_loaders_batches_cost_what_its_workers_say(tmp_path: Path):
    (loader,) = load(whole(tmp_path).path).loaders
    assert (loader.where, loader.dataset, loader.role) == (
        "train.py:41",
        "ImageFolder",
        "training",
    )
    assert loader.explicit == ["batch_size"]
    assert loader.getitem_ms == pytest.approx(100.0)
    assert loader.getitem_cpu_ms == pytest.approx(25.0)
    assert loader.queued_ms == pytest.approx(10.0)
    assert loader.storage_wait_ms == pytest.approx(105.0 - 30.0 - 10.0)
    assert (loader.read_bytes, loader.disk_bytes) == (1000.0, None)
    assert loader.wait_ms == pytest.approx(3.0)
    assert (loader.startup_ms, loader.first_batch_ms) == (15.0, 25.0)
    assert [(t.name, t.ms_per_sample, t.calls) for t in loader.transforms] == [
        ("Resize", 3.0, 30),
        ("Flip", 0.1, 10),
    ]


def test_a_loader_that_nobody_looked_into_has_no_costs(tmp_path: Path):
    Folder(tmp_path).end().record(rows([10.0] * 20, **STEPS), LOADER, USE)
    (loader,) = load(tmp_path).loaders
    assert loader.getitem_ms is None
    assert loader.storage_wait_ms is None
    assert loader.batches == 20


def test_no_run_is_said_in_one_sentence(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(SpeedprofError, match=r"no run in .*speedprof run train.py"):
            load(folder)


@pytest.mark.parametrize("what", ["run.json", "record"])
def test_a_newer_versions_run_is_refused_with_the_remedy(tmp_path: Path, what: str):
    folder = Folder(tmp_path)
    folder.record(rows([10.0]), about=process(format=2 if what == "record" else 1))
    if what == "run.json":
        folder.start(format=2)
    with pytest.raises(SpeedprofError, match=r"newer speedprof.*format 2.*pip install -U"):
        load(tmp_path)


def test_a_run_without_a_step_says_that_none_was_seen(tmp_path: Path):
    run = load(Folder(tmp_path).end(3).path)
    assert run.phases is None
    assert run.step_ms is None
    assert run.steps == 0
    assert run.exit_status == 3
    assert [(n.what, n.why) for n in run.not_measured] == [("phases", "no training step was seen")]


def test_a_run_that_was_cut_short_did_not_finish(tmp_path: Path):
    folder = whole(tmp_path)
    (folder.path / "end.json").unlink()
    run = load(folder.path)
    assert not run.finished
    assert run.exit_status is None
    assert run.steps == 20


@pytest.mark.parametrize("name", ["window", "worker", "end", "machine", "rank"])
def test_garbage_in_any_file_is_noted_and_the_rest_is_used(tmp_path: Path, name: str):
    folder = whole(tmp_path)
    (folder.path / "machine-node.jsonl").write_text('{"node": "node", "cpu": null}\n')
    load(folder.path)  # reduces the window
    (path,) = folder.path.glob(f"{name}*")
    path.write_bytes(b"\x00garbage\xff\n" * 9)
    run = load(folder.path)
    assert run.steps == (0 if name == "rank" else 20)
    assert run.notes or name in ("end",)


def test_a_window_that_is_damaged_leaves_the_others(tmp_path: Path):
    folder = whole(tmp_path)
    (folder.path / "window-node-42-9.win").write_bytes(b"SPW1")
    run = load(folder.path)
    assert run.windows == 1
    assert run.notes == ["1 windows could not be read and were left out"]


def test_loading_again_gives_the_same(tmp_path: Path):
    folder = whole(tmp_path).path
    assert load(folder) == load(folder)


def test_warm_up_and_traced_steps_are_left_out_of_the_statistics(tmp_path: Path):
    walls, flags = [900.0, 900.0, 10.0, 700.0, 800.0, 12.0], [0.0, 0.0, 0.0, 1.0, 2.0, 0.0]
    Folder(tmp_path).record(rows(walls, flags=flags))
    run = load(tmp_path)
    assert run.step_ms is not None
    assert (run.step_ms.count, run.step_ms.mean_ms) == (2, 11.0)
    assert run.traced_steps == 1
    assert run.series is not None
    assert run.series.wall_ms == walls
    assert run.series.traced == [False, False, False, True, False, False]


def test_a_run_shorter_than_its_warm_up_counts_all_and_says_so(tmp_path: Path):
    Folder(tmp_path, warmup=10).record(rows([10.0, 20.0]))
    run = load(tmp_path)
    assert run.step_ms is not None
    assert run.step_ms.count == 2
    assert any("warm-up" in note for note in run.notes)


def test_rows_that_stand_for_many_steps_weigh_as_many(tmp_path: Path):
    steps = [row(0, 10, samples=1), row(10, 60, count=3, samples=3)]
    Folder(tmp_path, warmup=0).record(steps)
    run = load(tmp_path)
    assert run.steps == 4
    assert run.step_ms is not None
    assert (run.step_ms.count, run.step_ms.mean_ms) == (4, 17.5)
    assert run.step_ms.median_ms > 15


def test_many_steps_are_thinned_to_a_picture_that_keeps_their_mean(tmp_path: Path):
    Folder(tmp_path).record(rows([float(n % 7 + 1) for n in range(5_000)]))
    series = load(tmp_path).series
    assert series is not None
    assert len(series.wall_ms) == len(series.start_s) == len(series.traced) == 2_000
    assert sum(series.wall_ms) / 2_000 == pytest.approx(4.0, abs=0.01)
    assert series.start_s == sorted(series.start_s)


def test_without_windows_host_time_is_said_to_be_inside_compute(tmp_path: Path):
    why = ("no_window", {"why": "the script uses torch.profiler itself"})
    Folder(tmp_path).record(rows([10.0] * 20, **STEPS), why)
    run = load(tmp_path)
    assert run.host is None
    assert run.lines == []
    assert run.phases is not None
    assert run.phases["compute"].share == 1.0
    assert (
        "the script uses torch.profiler itself"
        in {n.what: n.why for n in run.not_measured}["host"]
    )


@pytest.mark.parametrize(("flag", "said"), [(0.0, "no step was traced"), (1.0, "being traced")])
def test_a_run_that_ended_amid_a_window_does_not_say_that_none_began(
    tmp_path: Path, flag: float, said: str
):
    Folder(tmp_path, warmup=2).record(rows([10.0] * 4, flags=[0.0, 0.0, flag, flag], **STEPS))
    assert said in {n.what: n.why for n in load(tmp_path).not_measured}["host"]


def test_lines_are_shown_as_the_user_would_write_them_and_scaled_to_the_usual_step(tmp_path: Path):
    stack = [("/home/me/lib/tools.py", 7, "tidy", False), ("/home/me/train.py", 9, "main", False)]
    folder = Folder(tmp_path).end()
    folder.record(rows([40.0] * 20))
    folder.window(Case([0, 100]).sampled(2.5, 100, stack))
    (line,) = load(tmp_path).lines
    assert (line.where, line.function, line.phase, line.kind) == (
        "lib/tools.py:7", "tidy", "host", "python",
    )  # fmt: skip
    assert line.ms == pytest.approx(40.0)
    assert line.share == pytest.approx(1.0)


def two_ranks(path: Path, *, late: int = 1) -> Run:
    """Return a run in which one rank computes 30 ms longer before a collective of 5 ms."""
    folder = Folder(path).end()
    for rank in (0, 1):
        busy = 40.0 if rank == late else 10.0
        about = process(rank, 2, pid=100 + rank)
        folder.record(rows([50.0] * 20, samples=8), about=about)
        case = Case([0, 50]).event("aten::mm", 0, busy)
        case.event("gloo:all_reduce", busy, 45, kind="user_annotation", thread=GLOO, size=1000)
        folder.window(case, pid=100 + rank)
    return load(path)


@pytest.mark.parametrize("late", [0, 1])
def test_waiting_for_a_late_rank_is_told_from_transfer_and_charged_to_it(
    tmp_path: Path, late: int
):
    run = two_ranks(tmp_path, late=late)
    assert run.world_size == 2
    assert [rank.rank for rank in run.ranks] == [0, 1]
    assert run.communication is not None
    assert run.communication.transfer_ms == pytest.approx(5.0)
    assert run.communication.waiting_ms == pytest.approx(15.0)  # 30 on one of two ranks
    assert run.communication.late_rank == late
    assert run.communication.late_rank_share == 1.0
    assert run.communication.late_rank_phase == "compute"
    assert run.communication.bytes == 1000.0


def test_phases_are_the_mean_over_ranks_and_their_parts_add_up_to_them(tmp_path: Path):
    run = two_ranks(tmp_path)
    assert run.phases is not None
    assert run.phases["compute"].ms == pytest.approx(25.0)
    assert run.phases["communication"].ms == pytest.approx(20.0)
    assert run.host is not None
    assert run.host.python_ms == pytest.approx(run.phases["host"].ms)
    assert run.step_ms is not None
    assert run.step_ms.samples_per_s == pytest.approx(2 * 8 / 0.05)
    assert len(run.timelines) == 2


def test_a_second_process_of_the_same_rank_does_not_hide_the_one_that_trained(tmp_path: Path):
    folder = Folder(tmp_path)
    folder.record(rows([10.0] * 3), about=process(pid=1))
    folder.record(rows([10.0] * 30), about=process(pid=2))
    run = load(tmp_path)
    assert run.ranks[0].pid == 2
    assert any("1 more process" in note for note in run.notes)


def test_the_machine_is_judged_by_its_load_during_the_training(tmp_path: Path):
    Folder(tmp_path).record(rows([100.0] * 20))  # from 3 to 5 s after the start
    head = {"node": "node", "cpu": "a CPU", "cores": 4, "memory_bytes": 1, "gpus": []}
    looks = [
        {"at_s": at, "cpu": 0.9 if 3 <= at <= 5 else 0.1, "tree_cpu": 0.5, "memory_bytes": 1,
         "available_bytes": 1}
        for at in range(9)
    ]  # fmt: skip
    lines = [json.dumps(line) for line in [head, *looks]]
    (tmp_path / "machine-node.jsonl").write_text("\n".join([*lines, "{"]))
    run = load(tmp_path)
    (machine,) = run.machines
    assert machine.cpu_load == pytest.approx(0.9)
    assert machine.other_load == pytest.approx(0.4)
    assert len(machine.samples) == 9
    assert run.notes == ["1 lines of telemetry were damaged and left out"]


def test_programs_that_give_way_take_no_cores(tmp_path: Path):
    Folder(tmp_path).record(rows([100.0] * 20))
    head = {"node": "node", "cpu": "a CPU", "cores": 4, "memory_bytes": 1, "gpus": []}
    look = {"at_s": 4, "cpu": 0.9, "tree_cpu": 0.5, "nice_cpu": 0.3, "memory_bytes": 1,
            "available_bytes": 1}  # fmt: skip
    lines = [json.dumps(line) for line in (head, look)]
    (tmp_path / "machine-node.jsonl").write_text("\n".join(lines))
    assert load(tmp_path).machines[0].other_load == pytest.approx(0.1)


def test_a_run_folder_may_move(tmp_path: Path):
    folder = whole(tmp_path / "here").path
    shutil.move(folder, tmp_path / "there")
    assert load(tmp_path / "there").steps == 20
