"""Load batches into pinned memory.

Does: builds the DataLoader with `pin_memory=True`, so that a thread of its own moves batches into
    page-locked memory.
Helps: a pinned batch is copied by the device itself, faster, and with `non_blocking=True` beside
    the step.
Avoid: hosts short of memory; loaders that yield device tensors already; `tensor.pin_memory()` in
    the training thread, which can be twice as slow as plain copying.
Safety: exact. The batches hold the same bytes.
Place: system. It changes where a batch lies, not what is trained.
Source: PyTorch tutorial on pin_memory and non_blocking; its figures are plotted, not stated.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

LEAST = 0.4  # of the copying, if nothing overlaps: assumed, no figure is published in numbers
MEMORY_SHARE = 0.1  # of the free memory that pinned batches may take
BY_HAND = """\
# in DataLoader(...), where one makes the batches:
pin_memory=True,
# in the training loop
batch = batch.to(device, non_blocking=True)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if not facts.is_gpu(run):
        return Misfit(
            reason=f"nothing is copied to another device: the training runs on {run.device}"
        )
    if loader is None and run.kind == "trace":
        return _of_a_trace(run, finding)
    if loader is None:
        return Misfit(
            reason="no DataLoader makes the batches; pin the buffers that are copied from"
        )
    if loader.pin_memory:
        return Misfit(reason="the loader pins its batches already; something else is copied")
    free = facts.available_bytes(run)
    if free is not None and (loader.batch_bytes or 0) * 4 > MEMORY_SHARE * free:
        return Misfit(
            reason=f"pinned batches would take too much of the {size(free)} that are free"
        )
    pageable = run.copies.pageable_ms if run.copies else None
    return Fit(
        reason=(
            f"{number(pageable or 0)} ms of each step are copies from pageable memory"
            f"{facts.users_word(loader, 'pin_memory')}"
        ),
        gain=removing(
            finding.low, finding.high, what="copying from pageable memory", at_least=LEAST
        ),
        parameters={"pin_memory": True},
        by_hand=facts.loader_call(loader, pin_memory=True)
        + "\n# in the training loop\nbatch = batch.to(device, non_blocking=True)",
    )


def _of_a_trace(run: Run, finding: Finding) -> Fit:
    """Advise on copies whose loader was not recorded."""
    pageable = run.copies.pageable_ms if run.copies else None
    return Fit(
        reason=f"{number(pageable or 0)} ms of each step are copies from pageable memory",
        gain=removing(
            finding.low, finding.high, what="copying from pageable memory", at_least=LEAST
        ),
        parameters={"pin_memory": True},
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "pin-memory", __doc__, treats=(("host_to_device", "pageable_memory"),), assess=assess
)
