"""What is wrong is said in one sentence; what has begun to train goes on."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from speedprof.tests.launching import only_run, script, speedprof


def _refused(*arguments: str | bytes, cwd: Path, **changes: str | None) -> str:
    """Return the one sentence of a command line that is refused."""
    done = speedprof("run", *arguments, cwd=cwd, **changes)
    said = done.stderr.decode()
    assert done.returncode == 2
    assert done.stdout == b""
    assert said.startswith("speedprof: ")
    assert said.count("\n") == 1
    assert not (cwd / "speedprof-runs").exists()
    return said


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    assert f"no script nope.py in {tmp_path}" in _refused("nope.py", cwd=tmp_path)


def test_a_command_in_the_place_of_a_script_gets_its_right_spelling(tmp_path: Path) -> None:
    said = _refused("sh", "-c", "true", cwd=tmp_path)
    assert "sh is a command, not a script; write `speedprof run -- sh -c true`" in said


def test_a_script_in_the_place_of_a_command_gets_its_right_spelling(tmp_path: Path) -> None:
    name = script(tmp_path, "pass")
    assert "`speedprof run train.py`" in _refused("--", name, cwd=tmp_path)


def test_a_missing_command_is_named(tmp_path: Path) -> None:
    assert "no command nope-nope; check" in _refused("--", "nope-nope", cwd=tmp_path)


def test_a_folder_without_a_main_is_no_script(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    assert "app is a folder without __main__.py" in _refused("app", cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"epochs: 3\n"),
        ("run", b"#!/bin/bash\npython train.py\n"),
        ("program", b"\x7fELF\x02\x01\x01\0"),
        ("text.py", b"MZ\0\0"),
    ],
)
def test_what_is_no_python_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name} does not look like Python" in _refused(name, cwd=tmp_path)


def test_a_python_without_an_ending_is_run(tmp_path: Path) -> None:
    name = script(tmp_path, "#!/usr/bin/env python3\nprint('ran')", "train")
    assert speedprof("run", name, cwd=tmp_path).stdout == b"ran\n"


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ("nope", "--python nope does not exist"),
        ("plain", "--python plain is not executable"),
        ("folder", "--python folder is a folder without bin/python"),
    ],
)
def test_an_interpreter_that_is_none_is_refused(python: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "folder").mkdir()
    name = script(tmp_path, "pass")
    assert why in _refused("--python", python, name, cwd=tmp_path)


def test_a_command_that_cannot_start_is_refused_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("#!/nope/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    done = speedprof("run", "--", "./broken", cwd=tmp_path)
    assert done.returncode == 2
    assert b"cannot start ./broken: No such file or directory" in done.stderr


def test_hostile_names_are_escaped_in_the_terminal(tmp_path: Path) -> None:
    said = _refused(b"a\x1b[31m\xff\n'\".py", cwd=tmp_path)
    assert "\x1b" not in said
    assert "\\x1b[31m\\xff\\n'\".py" in said


def test_a_name_with_anything_in_it_makes_a_plain_folder(tmp_path: Path) -> None:
    name = "../a'\"\n\x1b[31m</script>\udcff$(x)"
    done = speedprof("run", "--name", os.fsencode(name), script(tmp_path, "pass"), cwd=tmp_path)
    assert done.returncode == 0
    assert only_run(tmp_path).name[16:] == "a-31m-script-x"


@pytest.mark.parametrize("out", ["plain/runs", "/proc/nope", "plain"])
def test_training_goes_on_where_the_run_cannot_be_recorded(out: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    name = script(tmp_path, "import os; print('SPEEDPROF_RUN' in os.environ); raise SystemExit(4)")
    done = speedprof("run", "--out", out, name, cwd=tmp_path)
    assert (done.stdout, done.returncode) == (b"False\n", 4)
    assert f"speedprof: the run was not recorded: cannot write to {out}" in done.stderr.decode()
    assert b"--out DIR" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_training_goes_on_where_the_run_folder_is_deleted(tmp_path: Path) -> None:
    text = (
        "import os, shutil, time\n"
        "time.sleep(0.4)\nshutil.rmtree('speedprof-runs')\ntime.sleep(0.6)\nraise SystemExit(6)"
    )
    done = speedprof("run", script(tmp_path, text), cwd=tmp_path)
    assert done.returncode == 6
    assert b"was deleted while the script ran; nothing is left to report" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_training_goes_on_where_the_disk_is_full(full_disk: Path, tmp_path: Path) -> None:
    text = (
        "import os, time\ntime.sleep(0.3)\n"
        "try: open(os.environ['SPEEDPROF_RUN'] + '/ballast', 'wb').write(bytes(10**6))\n"
        "except OSError: pass\n"
        "time.sleep(0.6)\nraise SystemExit(6)"
    )
    name = script(tmp_path, text)
    done = speedprof("run", "--out", str(full_disk), name, cwd=tmp_path)
    assert done.returncode == 6
    assert done.stderr.count(b"the record is not whole: cannot write to") == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("flag", ["-I", "-E", "-S", "-uE"])
def test_a_python_that_ignores_us_is_named(flag: str, tmp_path: Path) -> None:
    name = script(tmp_path, "print('ran')")
    done = speedprof("run", "--", sys.executable, flag, name, cwd=tmp_path)
    assert (done.stdout, done.returncode) == (b"ran\n", 0)
    assert f"python -{flag[-1]} " in done.stderr.decode()
    assert f"leave -{flag[-1]} out" in done.stderr.decode()


def test_a_command_without_python_is_said_to_be_one(tmp_path: Path) -> None:
    done = speedprof("run", "--", "true", cwd=tmp_path)
    assert done.returncode == 0
    assert b"true started no Python process that speedprof could get into" in done.stderr


def test_a_script_that_never_imports_torch_is_said_to_be_one(tmp_path: Path) -> None:
    done = speedprof("run", "--python", sys.executable, script(tmp_path, "pass"), cwd=tmp_path)
    assert b"torch was not imported in the Python process" in done.stderr


def test_an_environment_without_torch_is_named(tmp_path: Path) -> None:
    python = next(
        filter(None, map(shutil.which, ("/usr/bin/python3", "/usr/local/bin/python3"))), None
    )
    if python is None or _has_torch(python):
        pytest.skip("no second Python without torch on this machine")
    name = script(tmp_path, "import torch")
    done = speedprof("run", "--python", python, name, cwd=tmp_path)
    assert done.returncode == 1
    assert f"there is no torch in {python}'s environment" in done.stderr.decode()
    assert b"--python PATH" in done.stderr


def _has_torch(python: str) -> bool:
    from speedprof.profiler.unmeasured import _has_torch as asked

    return asked(python)


def test_without_a_script_the_usage_is_shown(tmp_path: Path) -> None:
    done = speedprof("run", "--steps", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert b"name a script" in done.stderr


def test_a_misspelt_option_gets_its_right_spelling(tmp_path: Path) -> None:
    done = speedprof("run", "--stop-afterr", "3", script(tmp_path, "pass"), cwd=tmp_path)
    assert done.returncode == 2
    assert b"--stop-after" in done.stderr.replace(b"--stop-afterr", b"")
