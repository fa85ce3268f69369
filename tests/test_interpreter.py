"""Which Python runs a script, and what a run is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from speedprof.profiler import interpreter
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.unmeasured import hiding_flag


def _python(folder: Path) -> Path:
    """Put something executable where an environment has its python."""
    (folder / "bin").mkdir(parents=True)
    path = folder / "bin" / "python"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_environment_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)


def test_the_active_virtual_environment_is_chosen_before_conda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual, conda = _python(tmp_path / "virtual"), _python(tmp_path / "conda")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    assert interpreter.choose(None) == str(conda)
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "virtual"))
    assert interpreter.choose(None) == str(virtual)


def test_an_active_environment_that_was_deleted_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "gone"))
    assert os.access(interpreter.choose(None), os.X_OK)


def test_without_an_active_environment_ours_is_chosen_where_it_has_torch() -> None:
    pytest.importorskip("torch")
    assert interpreter.choose(None) == sys.executable


def test_without_torch_beside_us_the_first_on_the_path_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "")
    first = _python(tmp_path)
    monkeypatch.setenv("PATH", str(first.parent))
    assert interpreter.choose(None) == str(first)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpeedprofError, match="--python PATH"):
        interpreter.choose(None)


def test_python_may_be_named_by_path_by_name_and_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = _python(tmp_path)
    monkeypatch.setenv("PATH", str(python.parent))
    assert interpreter.choose(str(python)) == str(python)
    assert interpreter.choose("python") == str(python)
    assert interpreter.choose(str(tmp_path)) == str(python)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["sh", "-c", "x"], "sh"),
        (["sh", "--nproc-per-node", "2", "code/train.py", "other.py"], "train"),
        (["/bin/sh"], "sh"),
    ],
)
def test_a_command_is_called_by_the_script_in_it(command: list[str], name: str) -> None:
    assert interpreter.command(command).name == name


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["python", "train.py"], None),
        (["python", "train.py", "-I"], None),
        (["python", "-m", "x", "-E"], None),
        (["python", "-u", "-W", "error", "train.py"], None),
        (["python3.11", "-I", "train.py"], "I"),
        (["/usr/bin/env", "python", "-sE", "train.py"], "E"),
        (["nice", "python", "-u", "-S", "train.py"], "S"),
        (["python", "-XSomething", "train.py"], None),
        (["python", "-WError", "train.py"], None),
        (["grep", "-I", "x"], None),
    ],
)
def test_options_of_python_that_keep_us_out_are_told_from_the_scripts(
    command: list[str], flag: str | None
) -> None:
    assert hiding_flag(command) == flag
