"""Which Python runs the user's script, and whether what they named is a script at all."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speedprof.profiler.errors import SpeedprofError

PYTHON_ENDINGS = (".py", ".pyw", ".pyc", ".pyz", ".pyzw")
HEAD = 256  # bytes that hold a first line


@dataclass(frozen=True)
class Target:
    """What the user asked to run: a command line, and a name for it."""

    command: tuple[str, ...]
    name: str


def choose(asked: str | None) -> str:
    """Return the interpreter for scripts; raises SpeedprofError where there is none.

    It is the one asked for, else the active environment's, else ours if it has torch, else the
    first on PATH.
    """
    if asked is not None:
        return _asked(asked)
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        home = os.environ.get(variable)
        found = home and shutil.which(os.path.join(home, "bin", "python"))
        if found:
            return found
    if _torch_is_beside_us():
        return sys.executable
    found = shutil.which("python3") or shutil.which("python")
    if found is None:
        raise SpeedprofError("no python on PATH; name the interpreter with --python PATH")
    return found


def _asked(asked: str) -> str:
    found = shutil.which(asked)
    if found is not None:
        return found
    if os.path.isdir(asked):
        inside = shutil.which(os.path.join(asked, "bin", "python"))
        if inside is not None:
            return inside
        raise SpeedprofError(
            f"--python {asked} is a folder without bin/python; name an interpreter"
        )
    what = "is not executable" if os.path.exists(asked) else "does not exist"
    raise SpeedprofError(
        f"--python {asked} {what}; name an interpreter, as `which python` prints it"
    )


def _torch_is_beside_us() -> bool:
    from importlib.util import find_spec

    return bool(sys.executable) and find_spec("torch") is not None


def script(arguments: Sequence[str], python: str | None) -> Target:
    """Return the command for a script and its arguments.

    Raises SpeedprofError where it is none.
    """
    path = arguments[0]
    if path != "-":  # python's own sign for a script on stdin
        _check_script(path, arguments)
    name = "stdin" if path == "-" else Path(os.path.abspath(path)).stem
    return Target((choose(python), *arguments), name)


def module(arguments: Sequence[str], python: str | None) -> Target:
    """Return the command for `-m module arguments...`.

    Raises SpeedprofError where none is named.
    """
    if not arguments:
        raise SpeedprofError("-m needs the name of a module, as in `speedprof run -m package`")
    return Target((choose(python), "-m", *arguments), arguments[0])


def command(arguments: Sequence[str]) -> Target:
    """Return any other command; raises SpeedprofError where it cannot be found."""
    if not arguments:
        raise SpeedprofError("nothing to run; name a script, or a command after `--`")
    if shutil.which(arguments[0]) is None:
        remedy = "check its name and PATH"
        if os.path.isfile(arguments[0]):
            remedy = "a script goes without the `--`, as in `speedprof run train.py`"
        raise SpeedprofError(f"no command {arguments[0]}; {remedy}")
    return Target(tuple(arguments), _command_name(arguments))


def _command_name(arguments: Sequence[str]) -> str:
    """Name a command by the script in it, if there is one.

    `torchrun --nproc-per-node 2 train.py` is "train".
    """
    for argument in arguments[1:]:
        if argument.endswith(PYTHON_ENDINGS):
            return Path(argument).stem
    return Path(arguments[0]).name


def _check_script(path: str, arguments: Sequence[str]) -> None:
    if not os.path.lexists(path):
        raise SpeedprofError(_missing(path, arguments))
    if os.path.isdir(path):
        if not os.path.isfile(os.path.join(path, "__main__.py")):
            raise SpeedprofError(f"{path} is a folder without __main__.py; name the script in it")
        return
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise SpeedprofError(
            f"cannot read {path}: {error.strerror}; check the path and its rights"
        ) from error
    if not _looks_like_python(path, head):
        raise SpeedprofError(
            f"{path} does not look like Python (no .py ending, no python in its first line); "
            "to measure a command write `speedprof run -- COMMAND`"
        )


def _missing(path: str, arguments: Sequence[str]) -> str:
    if shutil.which(path) is not None:
        shown = " ".join(arguments[:3]) + (" ..." if len(arguments) > 3 else "")
        return f"{path} is a command, not a script; write `speedprof run -- {shown}`"
    return f"no script {path} in {os.path.abspath(os.path.dirname(path) or '.')}; check its name"


def _looks_like_python(path: str, head: bytes) -> bool:
    if path.endswith(PYTHON_ENDINGS):
        return path.endswith((".pyc", ".pyz", ".pyzw")) or b"\0" not in head
    first = head.split(b"\n", 1)[0]
    if first.startswith(b"#!"):
        return b"python" in first
    if not head.startswith(b"PK"):
        return False
    from zipfile import is_zipfile

    return is_zipfile(path)
