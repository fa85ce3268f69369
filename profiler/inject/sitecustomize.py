"""Start speedprof in a Python process of somebody else's: wait for torch, then arm.

Python imports this file by itself because `speedprof run` puts its folder first on PYTHONPATH. It
takes itself off the path, lets the user's own sitecustomize run, and costs a process without
torch a few hundred microseconds.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing's, which would have to be imported
if TYPE_CHECKING:
    from typing import Any


class _Watch:
    """A finder that finds nothing itself and calls back when an awaited module was executed."""

    def __init__(self, package: str) -> None:
        self._package = (
            package  # the folder of this speedprof; the process may have none of its own
        )
        self.waiting: dict[str, Any] = {"torch": self._arm}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name == "speedprof":
            return self._own()
        if name not in self.waiting:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None:
                self._call_back(name, spec)
                return spec
        return None

    def _own(self) -> Any:
        from importlib.util import spec_from_file_location

        start = os.path.join(self._package, "__init__.py")
        return spec_from_file_location(
            "speedprof", start, submodule_search_locations=[self._package]
        )

    def _call_back(self, name: str, spec: Any) -> None:
        loader = spec.loader
        if not hasattr(loader, "exec_module") or not hasattr(loader, "__dict__"):
            return
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            del loader.exec_module
            execute(module)
            self.waiting.pop(name)(module)

        loader.exec_module = exec_module

    def _arm(self, _torch: Any) -> None:
        try:
            from speedprof.profiler import arming
        except (ImportError, OSError):
            return  # speedprof was removed meanwhile: the training goes on unmeasured
        arming.arm(self.waiting)


def _report_in(folder: str) -> None:
    import time

    arguments = ",".join(_quoted(argument) for argument in sys.orig_argv[:8])
    line = '{"pid":%d,"parent":%d,"host":%s,"argv":[%s],"at":%.3f}\n' % (
        os.getpid(),
        os.getppid(),
        _quoted(os.uname().nodename),
        arguments,
        time.time(),
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(os.path.join(folder, "processes.jsonl"), flags, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def _quoted(text: str) -> str:
    """Return text as a JSON string; importing json would cost more than the rest of this file."""
    codes: list[int] = []
    for code in map(ord, text):
        above = code - 0x10000  # what is beyond 16 bits takes a pair of surrogates
        codes += [code] if above < 0 else [0xD800 | above >> 10, 0xDC00 | above & 0x3FF]
    plain = [chr(c) if 32 <= c < 127 and c not in (34, 92) else f"\\u{c:04x}" for c in codes]
    return '"' + "".join(plain) + '"'


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != here]
    folder = os.environ.get("SPEEDPROF_RUN")
    if folder:
        sys.meta_path.insert(0, _Watch(os.path.dirname(os.path.dirname(here))))
        try:
            _report_in(folder)
        except OSError:
            pass  # the run folder is gone: the training goes on, the launcher says so
        if "SPEEDPROF_SCRATCH" in os.environ:
            _protect()


def _protect() -> None:
    """In a trial: keep the user's files as they are, from before the script's first line on."""
    try:
        from speedprof.profiler.trials import protection
    except (ImportError, OSError) as error:
        sys.exit(f"speedprof: the trial's files cannot be protected ({error})")
    protection.protect()


def _let_the_users_run() -> None:
    """Import the sitecustomize that ours hides, in our place.

    Its errors are Python's to show; where there is none, ours is missing afterwards as it would
    be without us.
    """
    del sys.modules["sitecustomize"]
    import sitecustomize  # noqa: F401 - the user's


_begin()
_let_the_users_run()
