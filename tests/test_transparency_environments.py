"""speedprof without torch in an environment of its own, torch with nothing of ours in another."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

import speedprof
from speedprof.tests.in_process import facts
from speedprof.tests.transparency import (
    UNAWARE,
    Outcome,
    Running,
    assert_same,
    run_command,
    write,
)

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")

TORCHS = ("torch", "nvidia", "triton", "functorch")
OURS = ("speedprof", "__editable__", "click", "rich", "msgspec", "psutil", "pynvml", "matplotlib")


@dataclass(frozen=True)
class Environments:
    """The interpreters of both."""

    ours: Path
    theirs: Path


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """Make two environments out of links into this one."""
    ours = _environment(tmp_path_factory.mktemp("ours"), without=TORCHS + OURS[:2])
    (_packages(ours) / "speedprof").symlink_to(Path(speedprof.__file__).parent)
    theirs = _environment(tmp_path_factory.mktemp("theirs"), without=OURS)
    return Environments(ours / "bin" / "python", theirs / "bin" / "python")


def _environment(folder: Path, *, without: tuple[str, ...]) -> Path:
    venv.create(folder)
    for package in Path(str(torch.__file__)).parent.parent.iterdir():
        if not package.name.startswith((*without, "_distutils", "distutils-")):
            (_packages(folder) / package.name).symlink_to(package)
    return folder


def _packages(environment: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment / "lib" / version / "site-packages"


def _imports(python: Path, module: str) -> bool:
    command = [str(python), "-c", f"import importlib.util as u; exit(not u.find_spec({module!r}))"]
    return subprocess.run(command, check=False, cwd="/").returncode == 0


def test_neither_environment_has_what_the_other_is_for(environments: Environments) -> None:
    assert _imports(environments.ours, "speedprof")
    assert not _imports(environments.ours, "torch")
    assert _imports(environments.theirs, "torch")
    assert not any(_imports(environments.theirs, name) for name in ("speedprof", *OURS[2:]))


@pytest.mark.parametrize("named", ["--python", "VIRTUAL_ENV", "PATH"])
def test_a_script_is_measured_in_an_environment_with_nothing_of_ours(
    tmp_path: Path, environments: Environments, named: str
) -> None:
    options = ["--json"]
    environment = {"PATH": os.environ["PATH"]}
    if named == "--python":
        options += ["--python", str(environments.theirs)]
    elif named == "VIRTUAL_ENV":
        environment["VIRTUAL_ENV"] = str(environments.theirs.parent.parent)
    else:
        environment["PATH"] = f"{environments.theirs.parent}{os.pathsep}{environment['PATH']}"
    measured = _run(environments, tmp_path, options, environment)
    bare = Running([str(environments.theirs), "train_small.py"], cwd=UNAWARE).outcome()
    assert_same(bare, measured)
    assert measured.report["run"]["steps"] == 12
    assert facts(measured.folder, "note") == []


def test_an_environment_without_torch_is_said_and_the_script_runs(
    tmp_path: Path, environments: Environments
) -> None:
    script = write(tmp_path, "print('done')")
    command = run_command(
        [str(script)], out=tmp_path, options=("--json", "--python", str(environments.ours))
    )
    measured = Running([str(environments.ours), *command[1:]], cwd=tmp_path).outcome()
    assert (measured.status, measured.stdout) == (0, b"done\n")
    (note,) = measured.closing["notes"]
    assert "torch" in note


def _run(
    environments: Environments, out: Path, options: list[str], environment: dict[str, str]
) -> Outcome:
    command = run_command(["train_small.py"], out=out, options=options)
    ours = [str(environments.ours), *command[1:]]
    return Running(ours, cwd=UNAWARE, environment=environment).outcome()
