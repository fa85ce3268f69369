"""`speedprof analyze` as its users call it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from speedprof.profiler import attribution, trace_steps


def trace_of(rank: int, *, steps: int = 5, world_size: int = 2, late_us: float = 0.0) -> bytes:
    """Return a trace of steps of 10 ms: 3 ms of loader, 4 ms of kernels, 1 ms of all-reduce."""
    events: list[dict[str, Any]] = []

    def add(category: str, name: str, start: float, duration: float, **said: Any) -> None:
        tid = 7 if category in ("kernel", "gpu_memcpy") else 100
        events.append(
            {"ph": "X", "cat": category, "name": name, "pid": 100, "tid": tid,
             "ts": 1_700_000_000_000_000 + start, "dur": duration, "args": said}
        )  # fmt: skip

    for step in range(steps):
        at, launch = step * 10_000.0, 10 * step + 1
        add("user_annotation", f"ProfilerStep#{step}", at, 10_000)
        loader = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
        add("user_annotation", loader, at, 3_000 + late_us)
        add("cpu_op", "aten::mm", at + 3_100 + late_us, 100)
        kernels = [("volta_sgemm_128x64_nn", 3_200, 4_000), ("ncclKernel_AllReduce", 7_200, 1_000)]
        for number, (name, begin, duration) in enumerate(kernels):
            called, start = at + 3_110 + 20 * number + late_us, at + begin + late_us
            add("cuda_runtime", "cudaLaunchKernel", called, 10, correlation=launch + number)
            add("kernel", name, start, duration, correlation=launch + number, stream=7)
    distributed = {"backend": "nccl", "rank": rank, "world_size": world_size}
    return json.dumps({"distributedInfo": distributed, "traceEvents": events}).encode()


def analyze(tmp_path: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "speedprof", "analyze", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "rank0.json").write_bytes(trace_of(0))
    (folder / "rank1.json.gz").write_bytes(gzip.compress(trace_of(1)))
    return folder


def test_a_trace_becomes_a_run_that_report_compare_and_list_know(tmp_path: Path, ranks: Path):
    done = analyze(tmp_path, str(ranks / "rank0.json"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["run"]["kind"] == "trace"
    assert report["run"]["steps"] == 5
    assert report["phases"]["data_loading"]["ms"] == pytest.approx(3.0, abs=0.01)
    assert report["phases"]["compute"]["ms"] == pytest.approx(4.0, abs=0.01)
    assert report["phases"]["communication"]["ms"] == pytest.approx(1.0, abs=0.01)
    assert report["bottleneck"]["phase"] == "data_loading"
    (folder,) = (tmp_path / "speedprof-runs").glob("*-rank0")
    assert (folder / "report.html").stat().st_size > 10_000
    for command in (["report", str(folder)], ["list"], ["compare", str(folder), str(folder)]):
        again = subprocess.run(
            [sys.executable, "-m", "speedprof", *command],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert again.returncode == 0, again.stderr


def test_a_folder_of_ranks_is_one_run(tmp_path: Path, ranks: Path):
    done = analyze(tmp_path, str(ranks), "--json", "--out", "here", "--name", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["run"]["ranks"] == 2
    assert report["missing_ranks"] == []
    assert report["communication"]["matching"]["collectives"] == 5
    assert list((tmp_path / "here").glob("*-mine"))


def test_a_late_rank_is_named_with_what_kept_it(tmp_path: Path, ranks: Path):
    (ranks / "rank1.json.gz").write_bytes(gzip.compress(trace_of(1, late_us=1_500)))
    waiting = json.loads(trace_of(0))
    for event in waiting["traceEvents"]:
        if event["name"].startswith("nccl"):
            event["dur"] += 1_500  # rank 0 waits inside the collective
    (ranks / "rank0.json").write_text(json.dumps(waiting))
    report = json.loads(analyze(tmp_path, str(ranks), "--json").stdout)
    (worst, *_) = report["communication"]["matching"]["stragglers"]
    assert worst["rank"] == 1
    assert worst["phase"] == "data_loading"


def test_a_file_among_traces_that_is_none_is_left_out_and_named(tmp_path: Path, ranks: Path):
    (ranks / "notes.json").write_text('{"epoch": 3}')
    done = analyze(tmp_path, str(ranks))
    assert done.returncode == 0
    assert "left out" in " ".join(done.stdout.split())
    assert "notes.json" in "".join(done.stdout.split())  # wherever the line is broken


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.json", None, "no trace missing.json"),
        ("empty.json", b"", "it is empty"),
        ("loss.json", b'{"loss": [1, 2]}', "it has no traceEvents"),
        ("picture.png", b"\x89PNG\r\n", "it is not JSON"),
        ("instants.json", b'{"traceEvents": [{"ph": "i", "name": "x"}]}', "holds no events"),
    ],
)
def test_what_is_no_trace_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, name: str, content: bytes | None, said: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = analyze(tmp_path, name)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "speedprof-runs").glob("2*"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, ranks: Path):
    (tmp_path / "file").write_text("in the way")
    done = analyze(tmp_path, str(ranks), "--out", "file")
    assert done.returncode == 2
    assert "name another with --out DIR" in " ".join(done.stderr.split())


def test_hostile_names_are_shown_harmlessly(tmp_path: Path):
    name = "a\x1b[31m<script>'\"\n.json"
    (tmp_path / name).write_bytes(trace_of(0, world_size=1))
    done = analyze(tmp_path, name)
    assert done.returncode == 0, done.stderr
    assert "\x1b[31m" not in done.stdout
    (page,) = tmp_path.glob("speedprof-runs/*/report.html")
    assert "a\x1b" not in page.read_text("utf-8")


def test_files_of_one_process_recorded_twice_do_not_add_up(tmp_path: Path):
    for number in (1, 2):
        (tmp_path / f"host_77.{number}.pt.trace.json").write_bytes(
            trace_of(0, steps=2 + number, world_size=1)
        )
    done = analyze(tmp_path, ".", "--json")
    report = json.loads(done.stdout)
    assert report["run"]["steps"] == 4
    assert report["run"]["ranks"] == 1


@pytest.mark.parametrize(
    ("marks", "steps", "definition"),
    [
        (("ProfilerStep",), 5, trace_steps.BY_PROFILER),
        (("enumerate", "Optimizer"), 5, trace_steps.BY_LOADER),
        (("Optimizer",), 4, trace_steps.BY_OPTIMIZER),
        ((), 1, trace_steps.WHOLE),
    ],
)
def test_steps_are_told_by_the_best_marks_there_are(
    tmp_path: Path, marks: tuple[str, ...], steps: int, definition: str
):
    plain = json.loads(trace_of(0, world_size=1))
    optimizer = [
        {**event, "name": "Optimizer.step#SGD.step", "ts": event["ts"] + 9_000, "dur": 500}
        for event in plain["traceEvents"]
        if event["name"].startswith("ProfilerStep")
    ]
    plain["traceEvents"] = [
        event
        for event in [*plain["traceEvents"], *optimizer]
        if event["cat"] != "user_annotation" or event["name"].startswith(marks or ("none",))
    ]
    (tmp_path / "t.json").write_text(json.dumps(plain))
    assert analyze(tmp_path, "t.json").returncode == 0
    run = attribution.load(next((tmp_path / "speedprof-runs").glob("*-t")))
    assert (run.steps, run.step_definition) == (steps, definition)


def test_perfetto_gets_the_trace_with_our_phases(tmp_path: Path):
    (tmp_path / "t.json").write_bytes(trace_of(0, world_size=1))
    done = analyze(tmp_path, "t.json", "--perfetto", "out.json")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out.json").read_text())
    names = {event.get("name") for event in written["traceEvents"]}
    assert {"ProfilerStep#0", "volta_sgemm_128x64_nn"} <= names
    assert any("data_loading" in str(name) or "data loading" in str(name) for name in names)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_trace_that_may_not_be_read_is_said(tmp_path: Path):
    (tmp_path / "t.json").write_bytes(trace_of(0))
    (tmp_path / "t.json").chmod(0)
    assert "cannot read" in analyze(tmp_path, "t.json").stderr
