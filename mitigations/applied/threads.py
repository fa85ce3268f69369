"""Fewer threads for operators, so that workers and operators do not take each other's cores."""

from __future__ import annotations

from speedprof.mitigations.applied.process import Applied, Process


def apply(process: Process, one: Applied) -> None:
    """Set torch's intra-op threads; loader workers have one each, as torch sets it."""
    import torch

    before, wanted = torch.get_num_threads(), int(one.parameters["threads"])
    if wanted >= before:
        one.note(f"operators run on {before} threads already")
        return
    torch.set_num_threads(wanted)
    one.effects += 1
    process.changed(
        f"torch.num_threads: {one.name}: {wanted}", lambda: torch.set_num_threads(before)
    )
