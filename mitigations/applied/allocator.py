"""CUDA memory in segments that grow, so that sizes which change leave fewer holes."""

from __future__ import annotations

import os

from speedprof.mitigations.applied.process import Applied, Process

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
DEFAULT = "PYTORCH_CUDA_ALLOC_CONF"  # read by every version of torch
KEY = "expandable_segments"
OTHER = "cudaMallocAsync"  # a backend that has no segments


def apply(process: Process, one: Applied) -> None:
    """Set the allocator before CUDA is initialised; what the user set stays beside it."""
    import torch

    name = next((name for name in VARIABLES if os.environ.get(name)), DEFAULT)
    given = os.environ.get(name)
    hindrance = _hindrance(name, given or "")
    if hindrance is not None:
        one.note(hindrance)
        return
    settings = f"{given},{KEY}:True" if given else f"{KEY}:True"
    os.environ[name] = settings
    # a version that has read the variable already is told, too
    tell = getattr(torch._C, "_accelerator_setAllocatorSettings", None)  # noqa: SLF001
    if tell is not None:
        tell(settings)
    one.effects += 1

    def undo() -> None:
        if os.environ.get(name) != settings:
            return
        if given is None:
            del os.environ[name]
        else:
            os.environ[name] = given

    process.changed(f"os.environ[{name!r}]: {one.name}: {settings}", undo)


def _hindrance(name: str, given: str) -> str | None:
    import torch

    if not torch.cuda.is_available():
        return "there is no GPU here, so its allocator is not used"
    if torch.cuda.is_initialized():
        return f"CUDA was initialised before; set {name}={KEY}:True where you start the script"
    if KEY in given:
        return f"{name} says {given!r} already"
    if OTHER in given:
        return f"{name} chooses {OTHER}, which has no segments"
    return None
