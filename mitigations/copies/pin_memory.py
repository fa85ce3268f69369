"""Load batches into pinned memory.

Does: builds the DataLoader with `pin_memory=True`, so that a thread of its own moves batches into
    page-locked memory.
Helps: a pinned batch is copied by the device itself, faster, and with `non_blocking=True` beside
    the step.
Avoid: hosts short of memory; loaders that yield device tensors already; `tensor.pin_memory()` in
    the training thread, which can be twice as slow as plain copying.
Safety: exact. The batches hold the same bytes.
Place: system. It changes where a batch lies, not what is trained.
Source: PyTorch tutorial on pin_memory and non_blocking: its figures of pinned copies are plotted,
    not stated; pinning in the training thread was up to twice as slow as not pinning.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import copied_pinned
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

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
        gain=_gain(run, finding),
        parameters={"pin_memory": True},
        by_hand=facts.loader_call(loader, pin_memory=True)
        + "\n# in the training loop\nbatch = batch.to(device, non_blocking=True)",
    )


def _gain(run: Run, finding: Finding) -> Gain:
    """Return the gain at the pinned speed of this machine, where `speedprof roofs` measured it."""
    return copied_pinned(finding.low, finding.high, at_speed=_at_speed(run), overlapped=True)


def _at_speed(run: Run) -> float | None:
    """Return the part of the copies' present time that they take at the roof, None without one."""
    transfers = run.roofs.transfers if run.roofs else None
    pinned = transfers.pinned_gb_per_s if transfers else None
    copies = run.copies
    if pinned is None or copies is None or not copies.bytes:
        return None
    now = (copies.pageable_ms or 0.0) + (copies.pinned_ms or 0.0)
    return copies.bytes / (pinned.best * 1e6) / now if now > 0 else None


def _of_a_trace(run: Run, finding: Finding) -> Fit:
    """Advise on copies whose loader was not recorded."""
    pageable = run.copies.pageable_ms if run.copies else None
    return Fit(
        reason=f"{number(pageable or 0)} ms of each step are copies from pageable memory",
        gain=_gain(run, finding),
        parameters={"pin_memory": True},
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "pin-memory",
    __doc__,
    treats=(("host_to_device", "pageable_memory"),),
    assess=assess,
    how="patch",
)
