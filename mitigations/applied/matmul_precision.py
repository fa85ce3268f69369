"""Float32 products on TensorFloat-32 units."""

from __future__ import annotations

from speedprof.mitigations.applied.process import Applied, Process


def apply(process: Process, one: Applied) -> None:
    """Set torch's precision of float32 products; a script that sets it itself later wins."""
    import torch

    before, wanted = torch.get_float32_matmul_precision(), str(one.parameters["precision"])
    if before == wanted:
        one.note(f"float32 products run at precision {wanted!r} already")
        return
    torch.set_float32_matmul_precision(wanted)
    one.effects += 1

    def undo() -> None:
        if torch.get_float32_matmul_precision() == wanted:
            torch.set_float32_matmul_precision(before)

    process.changed(f"torch.float32_matmul_precision: {one.name}: {wanted}", undo)
