"""Whether a training differentiates gradients again, which compiled and fused code cannot do."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

# `create_graph=True`, or a variable; not in a comment
ASKED = re.compile(rb"^[^#\n]*\bcreate_graph\s*=(?!=)\s*(?!False\b)\w", re.MULTILINE)
INSTALLED = ("site-packages", "dist-packages")


def asked(model: Any) -> str | None:
    """Return the file of the script, or of its model, that asks for it; None where none does.

    The script's files are those that are imported from its folder. The question has to be settled
    before such code runs: it often does at every sixteenth step, or after a warm-up.
    """
    for path in dict.fromkeys((*_of_script(), *_of_model(model))):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if ASKED.search(file.read()):
                return os.path.basename(path)
    return None


def _of_script() -> Iterator[str]:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if not main or _is_installed(main):
        return
    yield os.path.abspath(main)
    folder = os.path.dirname(os.path.abspath(main)) + os.sep
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        if path.startswith(folder) and path.endswith(".py") and not _is_installed(path):
            yield path


def _of_model(model: Any) -> Iterator[str]:
    for name in {type(module).__module__ for module in model.modules()}:
        path = getattr(sys.modules.get(name), "__file__", None) or ""
        if name.partition(".")[0] != "torch" and path.endswith(".py"):
            yield path


def _is_installed(path: str) -> bool:
    return any(f"{os.sep}{name}{os.sep}" in path for name in INSTALLED)
