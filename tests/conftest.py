"""What several test files need: a small disk, and that nothing of ours is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from speedprof.tests.leaks import changes, snapshot

DISK = 96  # KiB


@pytest.fixture(autouse=True)
def nothing_stays_patched() -> Iterator[None]:
    """Fail a test after which torch, or anything else that we touch, is not as it was before."""
    before = snapshot()
    yield
    assert changes(before, snapshot()) == []


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
