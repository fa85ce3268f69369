"""What several test files need; and nothing of ours is left behind by any of them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from speedprof.tests.leaks import Snapshot, changes, snapshot

if TYPE_CHECKING:
    from speedprof.mitigations.applied.process import Process

DISK = 96  # KiB
THREADS = "OMP_NUM_THREADS"

# how long an example takes is the machine's affair
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several workers its part of the cores, before any of them imports torch."""
    workers = _workers(config)
    if workers > 1:
        os.environ.setdefault(THREADS, str(max(1, len(os.sched_getaffinity(0)) // workers)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count what has to run alone among the slow tests, before those are chosen."""
    for item in items:
        if item.get_closest_marker("alone") is not None:
            item.add_marker(pytest.mark.slow)


def _workers(config: pytest.Config) -> int:
    """Return how many processes of pytest-xdist run tests at the same time."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))


@pytest.fixture(autouse=True)
def nothing_stays_patched() -> Iterator[None]:
    """Fail a test after which torch, or anything else that we touch, is not as it was before."""
    before = _snapshot()
    yield
    assert _changes(before) == []


def _snapshot() -> Snapshot:
    with warnings.catch_warnings():  # looking at torch's deprecated names warns of them
        warnings.simplefilter("ignore")
        return snapshot()


def _changes(before: Snapshot) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return changes(before, snapshot())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what needs a CUDA device that is not there, and what others would disturb."""
    if item.get_closest_marker("alone") is not None and _workers(item.config) > 1:
        pytest.skip("it judges where time goes, and has to run alone: pytest -m alone")
    if item.get_closest_marker("gpu") is None:
        return
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture
def process() -> Iterator[Process]:
    """Yield what puts remedies in force here; afterwards all are undone, and none had failed."""
    from speedprof.mitigations.applied.process import Process
    from speedprof.profiler.fence import Fence

    failures: list[str] = []
    made = Process(Fence(failures.append), {})
    yield made
    assert made.undo() == []
    assert failures == []


@pytest.fixture
def group_of_one() -> Iterator[None]:
    """Make a process group of this process alone."""
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def compiler_is_warm() -> None:
    """Let the compiler set itself up: what it does once a process would look like a difference."""
    import torch
    from torch import nn

    torch.compile(nn.Linear(1, 1), backend="aot_eager")(torch.ones(1, 1)).sum().backward()


@pytest.fixture
def compiled() -> Iterator[None]:
    """Let nothing be left of what others have compiled, nor of what this test compiles."""
    import torch

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a file system that holds next to nothing; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of JPEG pictures, six a class, which tests of DALI only read."""
    from dali_cases import folder

    return folder(tmp_path_factory.mktemp("pictures") / "all", each=6, kind="jpg")


@pytest.fixture(scope="session")
def paths(root: Path) -> list[str]:
    """Return the pictures one by one."""
    from dali_cases import paths_in

    return paths_in(root)


@pytest.fixture(scope="session")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of large images in two classes, which tests of what is kept only read."""
    from cache_cases import drawn_in

    return drawn_in(tmp_path_factory.mktemp("jpegs"))


BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a benchmark's file as its neighbours do: from their own folder."""
    import importlib

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        found = getattr(sys.modules[name], "__file__", None)
        if found and Path(found).parent == BENCHMARKS:
            del sys.modules[name]
