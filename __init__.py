"""Find out where a PyTorch training step's time goes, and what to change."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__", "step"]


def __getattr__(name: str) -> object:
    """Load the public functions when they are first asked for.

    Importing speedprof does nothing.
    """
    if name == "step":
        from speedprof.profiler.explicit import step

        return step
    raise AttributeError(f"module 'speedprof' has no attribute {name!r}")
