"""What a script does around its loaders works as before where they got workers."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from pathlib import Path

import in_force
import pytest
import torch
from launching import bare
from torch.utils.data import DataLoader

from speedprof.mitigations.applied import hindrances
from speedprof.mitigations.applied.process import Process
from speedprof.profiler.machine_name import cores_here

SPAWNING = """\
import multiprocessing, os
import speedprof, torch
from torch.utils.data import DataLoader

with open("begun", "a") as file:
    file.write("x")
multiprocessing.set_start_method("spawn")
speedprof.apply("loader-workers=1")
{guard}
    loader = DataLoader(list(range(8)), 4)
    print(loader.num_workers, torch.cat(list(loader)).tolist())
"""


def test_a_script_that_makes_errors_of_warnings_gets_its_own_loader(process: Process) -> None:
    """More workers than cores are a warning of torch's, raised when a loader is all but built."""
    one = in_force.applied(process, "loader-workers", num_workers=cores_here() + 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = DataLoader(list(range(8)), 4)
    assert loader.num_workers == 0
    assert torch.cat(list(loader)).tolist() == list(range(8))
    assert any("it is built as the script says" in note for note in one.notes)


def test_the_script_may_still_decide_how_its_processes_start(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = multiprocessing.context._default_context  # type: ignore[attr-defined]
    monkeypatch.setattr(default, "_actual_context", None)
    in_force.applied(process, "loader-workers", num_workers=1)
    in_force.applied(process, "cache-samples")
    loader = DataLoader(list(range(8)), 4)
    for _ in range(2):
        assert torch.cat(list(loader)).tolist() == list(range(8))
    assert loader.multiprocessing_context is None
    assert multiprocessing.get_start_method(allow_none=True) is None


def test_a_context_of_the_scripts_own_is_used(process: Process) -> None:
    in_force.applied(process, "loader-workers", num_workers=1)
    own = multiprocessing.get_context("fork")
    loader = DataLoader(list(range(8)), 4, num_workers=1, multiprocessing_context=own)
    list(loader)
    assert loader.multiprocessing_context is own


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [True, False])
def test_a_spawned_worker_does_not_train_beside_the_script(tmp_path: Path, guarded: bool) -> None:
    guard = 'if __name__ == "__main__":' if guarded else "if True:"
    (tmp_path / "train.py").write_text(SPAWNING.format(guard=guard))
    done = bare(sys.executable, "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == [f"{int(guarded)} {list(range(8))}"]
    if not guarded:
        assert (tmp_path / "begun").read_text() == "x"
        assert b"which would run the script again" in done.stderr


def test_without_a_file_no_script_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    assert hindrances.hindrance([1], "spawn") is None
