"""What is installed, and that it runs from wherever it is started."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import speedprof

ROOT = Path(__file__).parent.parent
PARTS = ("advisor", "commands", "mitigations", "profiler", "reports")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel from a copy of the sources; return the names in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(
        ".*", "__pycache__", "build", "*.egg-info", "demo-data", "speedprof-runs"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    build = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_the_wheel_holds_every_module(wheel: set[str]) -> None:
    modules = {
        f"speedprof/{path.relative_to(ROOT)}"
        for part in PARTS
        for path in (ROOT / part).rglob("*.py")
    }
    assert modules <= wheel
    assert {"speedprof/__init__.py", "speedprof/__main__.py", "speedprof/py.typed"} <= wheel
    assert "speedprof/profiler/inject/sitecustomize.py" in wheel


@pytest.mark.slow
def test_the_wheel_holds_what_the_report_is_made_of(wheel: set[str]) -> None:
    for kind in ("*.html", "*.css", "*.json"):
        shipped = {
            f"speedprof/{path.relative_to(ROOT)}" for path in (ROOT / "reports").rglob(kind)
        }
        assert shipped
        assert shipped <= wheel


@pytest.mark.slow
def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    folders = {name.split("/")[1] for name in wheel if name.startswith("speedprof/")}
    modules = {"__init__.py", "__main__.py", "py.typed"}
    assert folders - modules == set(PARTS)
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"speedprof"}


@pytest.mark.parametrize("folder", [ROOT, ROOT / "tests"], ids=["the checkout", "elsewhere"])
def test_python_m_speedprof_tells_its_version(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "speedprof", "--version"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert speedprof.__version__ in done.stdout


def test_the_version_is_said_once() -> None:
    assert f'version = "{speedprof.__version__}"' in (ROOT / "pyproject.toml").read_text()
