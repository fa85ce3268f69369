"""Copy the next batch while this one is computed.

Does: copies each batch one step ahead, from pinned memory on a stream of its own.
Helps: copies that the device waits for although it has enough computing to hide them.
Avoid: pageable batches, whose copies overlap with nothing; device memory without room for one
    more batch; tensors of the batch that other streams use without `record_stream`.
Safety: exact. The same bytes, earlier; the step waits for its batch's copy.
Place: system (nearest action: reorder). The copy moves before the step that needs it.
Source: PyTorch tutorial on pin_memory and non_blocking; no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

LEAST = 0.6  # of what computing can hide: the first batch, and the bus that collectives use, too
FULL = 0.95  # of device memory at the peak
BY_HAND = """\
# before the training loop; then `for images, labels in ahead(loader):`, without .to(device)
side = torch.cuda.Stream()

def ahead(loader):  # the loader pins its batches: pin_memory=True
    batch = None
    for following in loader:
        with torch.cuda.stream(side):
            following = [part.to(device, non_blocking=True) for part in following]
        if batch is not None:
            yield batch
        torch.cuda.current_stream().wait_stream(side)
        for part in following:
            part.record_stream(torch.cuda.current_stream())
        batch = following
    if batch is not None:
        yield batch"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not facts.is_gpu(run):
        return Misfit(
            reason=f"nothing is copied to another device: the training runs on {run.device}"
        )
    if any(one.name == "prefetch-to-device" and one.effects for one in run.applied):
        return Misfit(reason="batches are copied ahead already")
    share, copies = run.share("compute"), run.copies
    if share is None or copies is None or copies.pageable_ms is None:
        return Misfit(reason="copies were not measured")
    if copies.pageable_ms > (copies.pinned_ms or 0.0):
        return Misfit(
            reason=f"{number(copies.pageable_ms)} ms of each step are copies from pageable "
            "memory, which overlap with nothing: pin the batches first"
        )
    fullest = _fullest(run)
    if fullest is not None and fullest > FULL:
        return Misfit(reason=f"device memory is {percent(fullest)} full: no room for a batch more")
    hidden = min(1.0, share / max(finding.share, 1e-9))
    amount = f" of {size(copies.bytes)}" if copies.bytes else ""
    return Fit(
        reason=(
            f"copies{amount} leave {percent(finding.share)} of the step exposed, and computing "
            f"takes {percent(share)}, which can hide {percent(hidden)} of it"
        ),
        gain=removing(
            finding.low * hidden, finding.high * hidden, what="exposed copying", at_least=LEAST
        ),
        by_hand=BY_HAND,
    )


def _fullest(run: Run) -> float | None:
    """Return how full the fullest device was at its peak, 0..1; None where not recorded."""
    return max(
        (
            rank.peak_device_bytes / rank.device_memory_bytes
            for rank in run.ranks
            if rank.peak_device_bytes and rank.device_memory_bytes
        ),
        default=None,
    )


MITIGATION = remedy(
    "prefetch-to-device",
    __doc__,
    treats=(("host_to_device", "bandwidth"), ("host_to_device", "blocking_copy")),
    assess=assess,
    after=("pin-memory", "non-blocking-copies"),
)
