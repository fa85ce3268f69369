"""`speedprof run`: the script cannot tell, and the shell cannot tell either."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from speedprof.tests.launching import bare, only_run, said, script, speedprof

TELLTALE = """
import os, sys
print(sys.argv, __name__, __file__, sys.path[0], sys.flags.interactive, sys.stdin.read())
print(os.getcwd(), sys.modules["__main__"].__name__, file=sys.stderr)
"""


def _closing_lines(stderr: bytes, bare_stderr: bytes) -> bytes:
    assert stderr.startswith(bare_stderr)
    return stderr[len(bare_stderr) :]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--steps", "5", "--out", "x", "--json"], ["-m", "--", "--help"], ["a b", "", "'\n"]],
)
def test_a_script_gets_its_own_arguments_and_streams(arguments: list[str], tmp_path: Path) -> None:
    name = script(tmp_path, TELLTALE)
    alone = bare(sys.executable, name, *arguments, cwd=tmp_path, stdin=b"words")
    under = speedprof(
        "run", "--python", sys.executable, name, *arguments, cwd=tmp_path, stdin=b"words"
    )
    assert under.stdout == alone.stdout
    assert b"speedprof" in _closing_lines(under.stderr, alone.stderr)
    assert under.returncode == alone.returncode == 0


def test_arguments_that_are_no_utf8_pass_through(tmp_path: Path) -> None:
    name = script(tmp_path, "import os, sys; print([os.fsencode(a) for a in sys.argv])")
    done = speedprof("run", name, b"\xff\xfe", cwd=tmp_path)
    assert done.stdout == b"[b'script.py', b'\\xff\\xfe']\n"
    assert said(tmp_path, "run.json")["command"][1:] == ["script.py", "\\xff\\xfe"]


def test_a_module_runs_as_python_runs_it(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    script(package, "")
    script(package, TELLTALE, "__main__.py")
    alone = bare(sys.executable, "-m", "package", "--steps", "3", cwd=tmp_path)
    under = speedprof("run", "-m", "package", "--steps", "3", cwd=tmp_path)
    assert under.stdout == alone.stdout
    assert only_run(tmp_path).name.endswith("-package")


def test_a_folder_with_a_main_runs_as_python_runs_it(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    script(tmp_path / "app", TELLTALE, "__main__.py")
    alone = bare(sys.executable, "app", cwd=tmp_path)
    assert speedprof("run", "app", cwd=tmp_path).stdout == alone.stdout


def test_a_script_on_stdin_runs_as_python_runs_it(tmp_path: Path) -> None:
    done = speedprof("run", "-", "x", cwd=tmp_path, stdin=b"import sys; print(sys.argv)")
    assert done.stdout == b"['-', 'x']\n"


def test_any_command_runs(tmp_path: Path) -> None:
    done = speedprof("run", "--", "sh", "-c", "echo $0 $1; exit 7", "--name", "x", cwd=tmp_path)
    assert (done.stdout, done.returncode) == (b"--name x\n", 7)


def test_the_environment_differs_by_what_measuring_needs_alone(tmp_path: Path) -> None:
    name = script(tmp_path, "import json, os; print(json.dumps(dict(os.environ)))")
    alone = eval(bare(sys.executable, name, cwd=tmp_path, PYTHONPATH="mine").stdout)
    under = eval(speedprof("run", name, cwd=tmp_path, PYTHONPATH="mine").stdout)
    changed = {key for key in alone | under if alone.get(key) != under.get(key)}
    assert changed == {"PYTHONPATH", "SPEEDPROF_RUN", "SPEEDPROF_OPTIONS", "KINETO_LOG_LEVEL"}
    assert under["PYTHONPATH"].split(":")[1:] == ["mine"]
    assert under["SPEEDPROF_RUN"] == str(only_run(tmp_path))


def test_the_users_kineto_log_level_is_kept(tmp_path: Path) -> None:
    name = script(tmp_path, "import os; print(os.environ['KINETO_LOG_LEVEL'])")
    assert speedprof("run", name, cwd=tmp_path, KINETO_LOG_LEVEL="0").stdout == b"0\n"


def test_open_files_and_limits_are_inherited(tmp_path: Path) -> None:
    name = script(tmp_path, "import os; os.write(7, b'seen')")
    command = f"{sys.executable} -m speedprof run {name} 7>seen.txt"
    assert bare("sh", "-c", command, cwd=tmp_path).returncode == 0
    assert (tmp_path / "seen.txt").read_bytes() == b"seen"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('sorry')", 1),
        ("1 / 0", 1),
        ("import os; os._exit(200)", 200),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("import os; os.abort()", -6),
        ("import ctypes; ctypes.string_at(0)", -11),
        ("raise KeyboardInterrupt", -2),
    ],
)
def test_the_exit_status_is_the_scripts(text: str, status: int, tmp_path: Path) -> None:
    name = script(tmp_path, text)
    alone = bare(sys.executable, name, cwd=tmp_path)
    under = speedprof("run", "--python", sys.executable, name, cwd=tmp_path)
    assert under.returncode == alone.returncode == status
    assert b"speedprof" in _closing_lines(under.stderr, alone.stderr)
    assert said(tmp_path, "end.json")["exit_status"] == status


def test_no_core_is_dumped_for_a_core_of_the_scripts(tmp_path: Path) -> None:
    name = script(tmp_path, "import os; os.abort()")
    limits = f"ulimit -c unlimited; exec {sys.executable} -m speedprof run {name}"
    assert bare("sh", "-c", limits, cwd=tmp_path).returncode == -6
    cores = [path.name for path in tmp_path.iterdir() if path.name.startswith("core")]
    assert len(cores) <= 1  # the script's own, where the kernel writes cores here


def test_the_run_folder_says_what_ran(tmp_path: Path) -> None:
    name = script(tmp_path, "pass")
    done = speedprof("run", "--name", "first try", "--steps", "4", name, "-x", cwd=tmp_path)
    assert done.returncode == 0
    start, end = said(tmp_path, "run.json"), said(tmp_path, "end.json")
    assert start["format"] == 1
    assert start["command"][1:] == ["script.py", "-x"]
    assert start["cwd"] == str(tmp_path)
    assert start["name"] == "first try"
    assert start["options"] == {"steps": 4, "stop_after": None, "warmup": 10, "windows": True}
    assert only_run(tmp_path).name.endswith("-first-try")
    assert (end["exit_status"], end["stopped_by_us"], end["notes"]) == (0, False, [])
    assert end["wall_s"] > 0
    assert (tmp_path / "speedprof-runs" / ".gitignore").read_text() == "*\n"


def test_the_launcher_ends_when_the_script_ends_though_its_daemon_goes_on(tmp_path: Path) -> None:
    text = (
        "import subprocess\n"
        "p = subprocess.Popen(['sleep', '30'], stdin=-3, stdout=-3, stderr=-3)\n"
        "p.returncode = 0\nprint(p.pid)"
    )
    done = speedprof("run", script(tmp_path, text), cwd=tmp_path)
    bare("kill", done.stdout.decode().strip(), cwd=tmp_path)
    assert done.returncode == 0
    assert said(tmp_path, "end.json")["wall_s"] < 20
