"""Which file a command runs as its script, and what that file held when the run began."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

SOURCES = (".py", ".pyw")
LAUNCHERS = (
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.launch",
    "deepspeed.launcher.runner",
)
MOST_BYTES = 4 << 20  # larger files are no scripts that anybody wrote


def path_of(command: Sequence[str], folder: str) -> Path | None:
    """Return the script that a command line names, None where it runs a module or something else.

    A script is the interpreter's first argument, or what ends like one behind a launcher.
    """
    arguments = list(command[1:])
    is_python = bool(command) and os.path.basename(command[0]).startswith("python")
    if is_python and arguments and not arguments[0].startswith("-"):
        return _file(arguments[0], folder)
    if is_python and not _is_launcher(arguments):
        return None
    for argument in arguments:
        if argument.endswith(SOURCES):
            return _file(argument, folder)
    return None


def fact(command: Sequence[str], folder: str) -> dict[str, str] | None:
    """Return the script's path and sha256 for the record; None where there is none to read."""
    from hashlib import sha256  # later than the command's own imports

    path = path_of(command, folder)
    if path is None:
        return None
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or state.st_size >= MOST_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return {"path": shown, "sha256": sha256(content).hexdigest()}


def _is_launcher(arguments: Sequence[str]) -> bool:
    """Tell whether `python -m MODULE` starts a script that is named behind it."""
    return len(arguments) > 1 and arguments[0] == "-m" and arguments[1] in LAUNCHERS


def _file(argument: str, folder: str) -> Path:
    return Path(os.path.normpath(os.path.join(folder, argument)))
