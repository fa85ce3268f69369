"""Copy batches beside the step.

Does: copies with `non_blocking=True` from pinned memory, one batch ahead on a stream of its own.
Helps: the host launches on while the copy runs, and the copy runs while the device computes.
Avoid: copies from the device to the host, which give wrong values when they are read too early;
    pageable memory, from which no copy overlaps.
Safety: exact. The copy is the same; the step waits for it where it is used.
Place: system (nearest action: reorder). The same bytes, earlier.
Source: PyTorch tutorial on pin_memory and non_blocking; no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import at, number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

BY_HAND = """\
# {where}
images = images.to(device, non_blocking=True)  # the loader pins: pin_memory=True
# one batch ahead, on a stream of its own
side = torch.cuda.Stream()
def ahead(loader):
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
    yield batch"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not facts.is_gpu(run):
        return Misfit(
            reason=f"nothing is copied to another device: the training runs on {run.device}"
        )
    share, copies = run.share("compute"), run.copies
    if share is None or copies is None:
        return Misfit(reason="copies were not measured")
    hidden = min(1.0, share / max(finding.share, 1e-9))
    return Fit(
        reason=(
            f"copying{at(finding.where)} leaves {percent(finding.share)} of the step exposed and "
            f"computing takes {percent(share)}, which can hide {percent(hidden)} of it; the host "
            "was "
            f"blocked {number(copies.blocking_ms or 0)} ms"
        ),
        gain=removing(
            finding.low * hidden, finding.high * hidden, what="exposed copying", at_least=0.5
        ),
        by_hand=BY_HAND.format(where=finding.where or "where the batch is copied"),
    )


MITIGATION = remedy(
    "non-blocking-copies",
    __doc__,
    treats=(("host_to_device", "blocking_copy"), ("host_to_device", "bandwidth")),
    assess=assess,
)
