"""DataLoaders of image folders whose images are made by DALI."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.dali.takeover import Takeover, Terms

MISSING = "DALI is not installed in the script's Python: pip install 'speedprof[dali]'"


def apply(process: Process, one: Applied) -> None:
    """Let DALI make the batches of every pass over a loader that it understands."""
    from torch.utils.data import DataLoader

    if not _installed():
        one.note(MISSING)
        return
    takeover = Takeover(_terms(one.parameters), one.note, process.fence.guard)
    original = DataLoader.__iter__
    begin = process.fence.guard(f"remedy {one.name}", takeover.begin)

    @functools.wraps(original)
    def iterate(loader: Any) -> Any:
        taken = begin(loader)
        if taken is None:
            return original(loader)
        one.effects = takeover.taken
        return taken

    process.patches.replace(DataLoader, "__iter__", iterate, reason=f"{one.name}: by DALI")
    process.changed(f"DALI's threads: {one.name}", takeover.close)


def _installed() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        return False


def _terms(parameters: dict[str, Any]) -> Terms:
    return Terms(
        threads=parameters.get("threads"),
        prefetch=int(parameters["prefetch"]),
        validation=bool(parameters["validation"]),
        gpu=bool(parameters["gpu"]),
        shrink=bool(parameters["shrink"]),
    )
