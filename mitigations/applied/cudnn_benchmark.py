"""Convolution algorithms chosen by trying them."""

from __future__ import annotations

from speedprof.mitigations.applied.process import Applied, Process


def apply(process: Process, one: Applied) -> None:
    """Let cuDNN try its algorithms; a script that sets the flag itself later wins."""
    import torch

    if torch.backends.cudnn.benchmark:
        one.note("cudnn.benchmark is on already")
        return
    if not torch.cuda.is_available():
        one.note("there is no GPU here, so cuDNN is not used")
        return
    torch.backends.cudnn.benchmark = True
    one.effects += 1

    def undo() -> None:
        torch.backends.cudnn.benchmark = False

    process.changed(f"torch.backends.cudnn.benchmark: {one.name}", undo)
