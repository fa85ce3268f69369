"""The command line itself: quick to start, helpful to type, one way to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from speedprof.tests.launching import COMMAND, environment, script, speedprof

HEAVY = ("torch", "numpy", "matplotlib", "jinja2", "rich", "psutil", "pynvml", "msgspec")


def _imported(*arguments: str, cwd: Path) -> set[str]:
    """Return the top-level modules that a command line imports before it ends."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments],
        cwd=cwd,
        capture_output=True,
        env=environment(),
        check=False,
        timeout=60,
    )
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["run", "--help"], ["run", "nope.py"], ["list", "-h"]]
)
def test_nothing_heavy_is_imported_to_say_a_sentence(arguments: list[str], tmp_path: Path) -> None:
    assert "click" in _imported(*arguments, cwd=tmp_path)
    assert not _imported(*arguments, cwd=tmp_path) & set(HEAVY)


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    from speedprof import __version__

    assert (
        speedprof("--version", cwd=tmp_path).stdout.decode()
        == f"speedprof, version {__version__}\n"
    )


def test_help_names_every_command(tmp_path: Path) -> None:
    said = speedprof("--help", cwd=tmp_path).stdout.decode()
    for command in ("run", "report", "list", "compare", "explain"):
        assert f"\n  {command} " in said
        assert speedprof(command, "--help", cwd=tmp_path).returncode == 0


def test_an_unknown_command_gets_its_right_spelling(tmp_path: Path) -> None:
    for wrong, right in (("reprot", "report"), ("train.py", "run train.py"), ("./x", "run ./x")):
        done = speedprof(wrong, "--epochs", "3", cwd=tmp_path)
        assert done.returncode == 2
        assert f"did you mean `speedprof {right}`?" in done.stderr.decode()


@pytest.mark.parametrize("command", [["list"], ["report"], ["compare", "a", "b"]])
def test_where_there_is_no_run_one_sentence_says_so(command: list[str], tmp_path: Path) -> None:
    done = speedprof(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"speedprof: no run")
    assert done.stderr.count(b"\n") == 1


def test_a_closed_pipe_ends_a_listing_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m speedprof explain | head -1"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, env=environment(), check=False, timeout=60
    )
    assert done.stdout.startswith(b"loader-workers")
    assert done.stderr == b""


def test_the_shell_completes_commands_options_and_scripts(tmp_path: Path) -> None:
    def completed(*words: str) -> str:
        done = speedprof(
            cwd=tmp_path,
            _SPEEDPROF_COMPLETE="bash_complete",
            COMP_WORDS=" ".join(words),
            COMP_CWORD=str(len(words) - 1),
        )
        return done.stdout.decode()

    assert "plain,report" in completed("speedprof", "rep")
    assert "plain,--stop-after" in completed("speedprof", "run", "--st")
    assert completed("speedprof", "run", "tr").startswith("file,tr")
    assert completed("speedprof", "run", "train.py", "--st").startswith("file,--st")


def test_a_working_directory_that_is_gone_is_no_traceback(tmp_path: Path) -> None:
    name = script(tmp_path, "print('ran')")
    gone = tmp_path / "gone"
    main = "from speedprof.commands import main; main()"
    measured = f"{sys.executable} -c '{main}' run {tmp_path / name}"
    command = f"mkdir {gone}; cd {gone}; rmdir {gone}; {measured}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, env=environment(), check=False, timeout=60
    )
    assert done.stdout == b"ran\n", os.fsdecode(done.stderr)
    assert b"Traceback" not in done.stderr
    assert b"the run was not recorded" in done.stderr
