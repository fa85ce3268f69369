"""Copy batches without waiting for them.

Does: copies to the device with `non_blocking=True`, from pinned memory.
Helps: the host launches on while the copy runs, so that the device has work right after it.
Avoid: copies from the device to the host, which give wrong values when they are read too early;
    pageable memory, from which the host waits all the same; writing into the batch while it is
    copied.
Safety: exact. The copy is the same; the device's stream runs it before what uses it.
Place: system (nearest action: reorder). The same bytes, without a wait.
Source: PyTorch tutorial on pin_memory and non_blocking; its figures are plotted, not stated.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import at, number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

# On the stream that computes the copy itself stays exposed; what goes is the gap behind it, until
# the host has launched again. Between a third of the exposed copying and all of it.
LEAST = 0.3
BY_HAND = """\
# {where}
images = images.to(device, non_blocking=True)  # and labels; the loader pins: pin_memory=True"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not facts.is_gpu(run):
        return Misfit(
            reason=f"nothing is copied to another device: the training runs on {run.device}"
        )
    if any(one.name == "non-blocking-copies" and one.effects for one in run.applied):
        return Misfit(reason="the host does not wait for copies of batches already")
    share, copies = run.share("compute"), run.copies
    if share is None or copies is None or copies.blocking_ms is None:
        return Misfit(reason="copies, or how long the host waits in them, were not measured")
    if copies.blocking_ms <= 0:
        return Misfit(reason="the host does not wait for its copies")
    hidden = min(1.0, share / max(finding.share, 1e-9))
    return Fit(
        reason=(
            f"the host waits {number(copies.blocking_ms)} ms of each step in copies"
            f"{at(finding.where)}; {percent(finding.share)} of the step are exposed copying, and "
            f"computing, {percent(share)}, can hide {percent(hidden)} of it"
        ),
        gain=removing(
            finding.low * hidden, finding.high * hidden, what="exposed copying", at_least=LEAST
        ),
        by_hand=BY_HAND.format(where=finding.where or "where the batch is copied"),
    )


MITIGATION = remedy(
    "non-blocking-copies",
    __doc__,
    treats=(("host_to_device", "blocking_copy"),),
    assess=assess,
    after=("pin-memory",),
)
