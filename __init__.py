"""Find out where a PyTorch training step's time goes, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speedprof.mitigations.applied.in_script import apply
    from speedprof.profiler.errors import SpeedprofError
    from speedprof.profiler.explicit import step

__version__ = "0.1.0"
__all__ = ["SpeedprofError", "__version__", "apply", "step"]

_HOMES = {
    "SpeedprofError": "speedprof.profiler.errors",
    "apply": "speedprof.mitigations.applied.in_script",
    "step": "speedprof.profiler.explicit",
}


def __getattr__(name: str) -> object:
    """Load the public names when they are first asked for.

    Importing speedprof does nothing.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'speedprof' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
