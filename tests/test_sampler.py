"""The machine as seen from outside: what the run uses, what it may use, and nothing invented."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from speedprof.profiler import gpu, node, sampler
from speedprof.profiler.run import Machine, Sample
from speedprof.tests.launching import wait_until

BUSY = "import time; end = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
WRITER = (
    "import os, time\n"
    "while True:\n"
    "    with open('ballast', 'wb') as f: f.write(bytes(4 << 20)); os.fsync(f.fileno())\n"
    "    time.sleep(0.01)"
)


def _watched(folder: Path, code: str, looks: int = 6) -> tuple[Machine, list[Sample]]:
    """Sample a Python program until there were some looks; return what was written."""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=folder)
    watch = sampler.Sampler(folder, child.pid, started_at=time.time(), pause_s=0.1)
    watch.start()
    try:
        wait_until(lambda: len(_lines(folder)) > looks, "no samples")
    finally:
        watch.stop()
        subprocess.run(["pkill", "-P", str(child.pid)], check=False)
        child.kill()
        child.wait()
    assert watch.failed is None
    first, *rest = _lines(folder)
    machine = msgspec.convert({**json.loads(first), "samples": []}, Machine)
    return machine, [msgspec.json.decode(line, type=Sample) for line in rest]


def _lines(folder: Path) -> list[bytes]:
    return [
        line for path in folder.glob("machine-*.jsonl") for line in path.read_bytes().splitlines()
    ]


def test_the_processor_time_of_all_descendants_is_seen(tmp_path: Path) -> None:
    machine, samples = _watched(tmp_path, PARENT, looks=12)
    assert machine.node == os.uname().nodename
    assert machine.cores >= 1
    assert machine.memory_bytes is not None
    busy = [sample.tree_cpu * machine.cores for sample in samples[6:]]
    assert max(busy) > 0.2
    assert all(0 <= sample.tree_cpu <= sample.cpu <= 1 for sample in samples)
    assert all(sample.memory_bytes > 1 << 20 for sample in samples)


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) > 0, reason="the tests are niced")
def test_niced_programs_are_told_from_others_that_take_cores(tmp_path: Path) -> None:
    niced = "import os; os.nice(10); " + BUSY
    machine, samples = _watched(tmp_path, niced, looks=12)
    told = [sample.nice_cpu for sample in samples[6:] if sample.nice_cpu is not None]
    assert machine.cores >= 1
    if node.limits(1 << 40).quota is None:
        assert max(told) * machine.cores > 0.2
    else:
        assert told == []


def test_of_ones_own_niced_processes_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpriority", lambda *_: 10)
    _, samples = _watched(tmp_path, "pass")
    assert {sample.nice_cpu for sample in samples} == {None}


def test_an_idle_run_uses_next_to_nothing(tmp_path: Path) -> None:
    _, samples = _watched(tmp_path, "import time; time.sleep(60)")
    assert min(sample.tree_cpu for sample in samples) < 0.05
    assert [sample.at_s for sample in samples] == sorted(sample.at_s for sample in samples)


def test_traffic_to_storage_is_seen_where_the_kernel_tells_it(tmp_path: Path) -> None:
    _, samples = _watched(tmp_path, WRITER, looks=12)
    rates = [sample.write_bytes_per_s for sample in samples]
    if all(rate is None for rate in rates):
        pytest.skip("this kernel does not count I/O of processes")
    if os.statvfs(tmp_path).f_blocks and not any(rates):
        pytest.skip("this file system does not count as storage")
    assert max(rate or 0 for rate in rates) > 1 << 20


def test_a_process_that_ended_takes_no_time_back(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "sum(range(10**7))"])
    tree = sampler.Tree(child.pid)
    before = tree.look()[0]
    wait_until(lambda: tree.look()[0] > before, "no CPU time was seen")
    seen = tree.look()[0]
    child.wait()
    assert tree.look()[0] >= seen


def test_a_folder_that_goes_away_ends_the_sampling_quietly(tmp_path: Path) -> None:
    watch = sampler.Sampler(tmp_path / "gone", os.getpid(), started_at=0.0)
    watch.start()
    watch.stop()
    assert watch.failed is not None
    assert watch.failed.strerror == "No such file or directory"


def test_rates_are_not_measured_where_a_counter_is_not() -> None:
    assert sampler._rate(None, 5, 1.0) is None
    assert sampler._rate(5, None, 1.0) is None
    assert sampler._rate(5, 25, 2.0) == 10.0
    assert sampler._rate(25, 5, 2.0) == 0.0


@pytest.mark.parametrize(
    ("own", "files", "quota", "memory"),
    [
        ("0::/job", {"job/cpu.max": "150000 100000", "job/memory.max": "1000"}, 1.5, 1000),
        ("0::/job", {"cpu.max": "400000 100000", "job/cpu.max": "max 100000"}, 4.0, 5000),
        ("0::/host/path", {"cpu.max": "50000 100000"}, 0.5, 5000),
        (
            "4:cpu,cpuacct:/a\n3:memory:/a",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
                "memory/a/memory.limit_in_bytes": "4000",
            },
            2.0,
            4000,
        ),
        (
            "4:cpu:/a",
            {"cpu/a/cpu.cfs_quota_us": "-1", "memory/a/memory.limit_in_bytes": "4000"},
            None,
            5000,
        ),
        ("3:memory:/a", {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, None, 5000),
        ("0::/job", {"job/cpu.max": "", "job/memory.max": "max"}, None, 5000),
    ],
)
def test_limits_of_cgroups_are_read(
    own: str, files: dict[str, str], quota: float | None, memory: int, tmp_path: Path
) -> None:
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (tmp_path / "own").write_text(own + "\n")
    found = node.limits(5000, root=tmp_path / "root", own=tmp_path / "own")
    assert (found.quota, found.memory_bytes) == (quota, memory)
    assert found.cpus == os.sched_getaffinity(0)


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/", {"memory.max": "4000", "memory.current": "3000"}, 1000),
        (
            "0::/slurm/job",  # the limit is the job's, its steps have none
            {
                "slurm/memory.max": "4000",
                "slurm/memory.current": "3000",
                "slurm/memory.stat": "anon 2500\ninactive_file 500",
                "slurm/job/memory.max": "max",
                "slurm/job/memory.current": "3000",
            },
            1500,
        ),
        (
            "4:memory:/a",
            {
                "memory/a/memory.limit_in_bytes": "4000",
                "memory/a/memory.usage_in_bytes": "3900",
                "memory/a/memory.stat": "inactive_file 7\ntotal_inactive_file 300",
            },
            400,
        ),
        ("0::/", {"memory.max": "max", "memory.current": "3000"}, None),
    ],
)
def test_what_cgroups_leave_of_their_memory_is_read(
    own: str, files: dict[str, str], left: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert node.memory_left(root=tmp_path / "root", own=tmp_path / "own") == left


def test_limits_are_worth_a_sentence_only_where_they_limit() -> None:
    def limits(cpus: int, quota: float | None) -> node.Limits:
        return node.Limits(cpus=frozenset(range(cpus)), quota=quota, memory_bytes=None)

    assert node.sentence(limits(8, None), 8) is None
    assert node.sentence(limits(8, 16.0), 8) is None
    assert (
        node.sentence(limits(8, 1.5), 64)
        == "its cgroup allows 1.5 cores' worth of time on 8 cores"
    )
    assert node.sentence(limits(2, None), 64) == "its CPU affinity allows 2 of 64 cores"
    assert limits(8, 1.5).cores == 1.5


def test_without_a_driver_there_are_no_gpus_and_no_noise(
    capfd: pytest.CaptureFixture[str],
) -> None:
    gpus = gpu.Gpus()
    if gpus.names:
        pytest.skip("this machine has a driver")
    assert gpus.sample() == []
    gpus.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (None, None),
        (0, None),
        (1, None),
        (4, "power cap"),
        (0x28, "hardware slowdown, software thermal limit"),
    ],
)
def test_slowdowns_of_a_gpu_have_names(reasons: int | None, words: str | None) -> None:
    assert gpu.throttle(reasons) == words


@pytest.mark.gpu
def test_a_gpu_is_seen_at_work(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    gpus = gpu.Gpus()
    held = torch.ones(1 << 20, device="cuda")
    samples = [gpus.sample()[0] for _ in range(2)]
    assert gpus.names[0]
    assert all((sample.memory_bytes or 0) > held.nbytes for sample in samples)
    assert samples[0].utilisation is not None
    gpus.close()
