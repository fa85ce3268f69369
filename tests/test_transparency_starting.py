"""Every way to start a script: it does the same bare and measured."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

import pytest

from speedprof.tests.transparency import UNAWARE, Outcome, assert_same, both, write

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

TELL = """
import os, sys
if __name__ == "__main__":
    main = sys.modules["__main__"]
    print(__name__, __file__, __package__, __spec__ and __spec__.name)
    print(sys.argv, sys.path[0], sys.flags)
"""
TRAIN = (UNAWARE / "train_small.py").read_text("utf-8")


def train_as(
    tmp_path: Path, *arguments: str, environment: dict[str, str] | None = None, stdin: bytes = b""
) -> Outcome:
    """Compare a small training, started as `python ARGUMENTS`, that must have been measured."""
    bare, measured = both(
        tmp_path, ["python", *arguments], whole=True, environment=environment, stdin=stdin
    )
    assert_same(bare, measured)
    assert bare.stdout.startswith(b"trained 12 "), bare.stderr
    assert list(measured.folder.glob("rank-*.rec")), "nothing was measured"
    return measured


@pytest.fixture(autouse=True)
def python_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `python` be the interpreter of the tests."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tell.py", "--steps", "3", "--out", "x", "--name=y", "--quiet", "--", "-m", "-x"],
        ["./tell.py"],
        ["-m", "package.tell", "--json", "--help"],
        ["package", "--version"],
        ["-"],
    ],
    ids=["script with options like ours", "relative", "module", "folder", "stdin"],
)  # fmt: skip
def test_a_script_sees_its_own_name_place_and_arguments(
    tmp_path: Path, arguments: list[str]
) -> None:
    for name in ("tell.py", "package/tell.py", "package/__main__.py", "package/__init__.py"):
        write(tmp_path, TELL if not name.endswith("__init__.py") else "", name)
    bare, measured = both(
        tmp_path, arguments, stdin=TELL.encode() if arguments == ["-"] else b"input"
    )
    assert_same(bare, measured)
    assert bare.stdout


def test_argparse_reports_usage_as_ever(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--steps", type=int, required=True)
        parser.add_argument("--stop-after")
        print(parser.parse_args())
        """,
    )
    for arguments in (["--steps", "x"], ["--help"], ["--steps", "1", "--stop-after", "2"]):
        assert_same(*both(tmp_path, [script.name, *arguments]))


def test_a_module_of_a_package_trains_with_stdin_its_own(tmp_path: Path) -> None:
    write(tmp_path, "", "package/__init__.py")
    write(tmp_path, TRAIN, "package/train.py")
    measured = train_as(tmp_path, "-m", "package.train", stdin=b"first\nsecond\n\xff\x00third")
    assert b"read 20 bytes" in measured.stdout


def test_a_script_on_stdin_trains(tmp_path: Path) -> None:
    train_as(tmp_path, "-", stdin=TRAIN.encode())


def test_warnings_as_errors_developer_mode_and_no_assertions_are_no_matter(tmp_path: Path) -> None:
    write(tmp_path, TRAIN)
    ours = ["-W", "error::ResourceWarning", "-W", "error:::speedprof"]
    train_as(tmp_path, *ours, "-X", "dev", "-OO", "train.py")


def test_pythons_own_variables_keep_their_meaning(tmp_path: Path) -> None:
    write(tmp_path, "found = 'theirs'", "theirs/module_of_theirs.py")
    write(tmp_path, TRAIN)
    environment = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": "theirs:",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    train_as(tmp_path, "train.py", environment=environment)


@pytest.mark.parametrize(
    "flag", ["-I", "-E"], ids=["isolated", "without Python's variables"]
)  # fmt: skip
def test_where_python_takes_no_injection_the_script_runs_and_that_is_said(
    tmp_path: Path, flag: str
) -> None:
    write(tmp_path, TRAIN)
    bare, measured = both(tmp_path, ["python", flag, "train.py"], whole=True)
    assert_same(bare, measured)
    (note,) = measured.closing["notes"]
    assert f"python {flag} " in note
    assert f"leave {flag} out" in note


CUSTOM = "import os, sys\nprint({name!r}, os.path.basename(__file__), __name__, sys.path[:1])\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where a customisation goes so that the script's Python alone runs it."""
    environment, home = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("home")
    venv.create(environment)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "sitecustomize": environment / "lib" / version / "site-packages",
        "usercustomize": home / "lib" / version / "site-packages",
        "sitecustomize python": environment / "bin" / "python",
        "usercustomize python": Path(sys.base_prefix) / "bin" / "python3",  # off in environments
        "home": home,
    }


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
@pytest.mark.parametrize(
    "ending",
    ["", "raise ValueError('theirs')", "import missing_module"],
    ids=["fine", "raises", "imports what is missing"],
)
def test_the_users_own_customisation_runs_as_ever(
    tmp_path: Path, place: dict[str, Path], name: str, ending: str
) -> None:
    bare, measured = _customised(tmp_path, place, name, ending)
    assert_same(bare, measured)
    assert bare.stdout.startswith(name.encode())


def test_a_customisation_that_ends_python_still_does(
    tmp_path: Path, place: dict[str, Path]
) -> None:
    bare, measured = _customised(tmp_path, place, "sitecustomize", "sys.exit(4)")
    assert (measured.status, measured.stdout) == (bare.status, bare.stdout)
    assert bare.stderr.splitlines()[-1] == measured.their_stderr.splitlines()[-1]


def _customised(
    tmp_path: Path, place: dict[str, Path], name: str, ending: str
) -> tuple[Outcome, Outcome]:
    write(place[name], CUSTOM.format(name=name) + ending + "\n", f"{name}.py")
    script = write(tmp_path, f"import sys; m = sys.modules.get({name!r}); print(m and m.__file__)")
    environment = {"PYTHONUSERBASE": str(place["home"])}
    command = [str(place[f"{name} python"]), script.name]
    return both(tmp_path, command, whole=True, environment=environment)
