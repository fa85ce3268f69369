"""Hand over and copy fewer bytes: uint8 instead of float32, converted on the device.

Does: leaves images (or other small integers) as uint8 until they are where they are computed with.
Helps: large batches that cross between processes or over the bus: a quarter of the bytes.
Avoid: samples that are not small integers to begin with; transforms that need floats on the CPU.
Safety: rounding. The same values, divided and normalised by the device instead of the worker.
Place: system. The same samples, in a smaller type on the way.
Source: FFCV's performance guide lists it; 4x fewer bytes is arithmetic, no isolated published
    figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

FASTER = (1.5, 4.0)  # a quarter of the bytes at best; labels and fixed costs stay
LARGE = 1 << 20  # bytes: below 1 MiB a batch's size is not what it costs
BY_HAND = """\
# {where}: leave out ToTensor()/ToDtype()/Normalize() and end the chain with
transforms.PILToTensor()  # uint8, a quarter of the bytes
# in the training loop, after the batch has been copied to the device
# (mean and std of shape (3, 1, 1), on the device)
images = images.float().div_(255).sub_(mean).div_(std)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    large = loader.batch_bytes if loader else None
    if loader is None or large is None:
        return Misfit(reason="the size of a batch was not measured")
    if large < LARGE:
        return Misfit(reason=f"a batch has {size(large)}: its size is not what it costs")
    return Fit(
        reason=f"a batch has {size(large)}; if it is float32, as uint8 {size(large / 4)}",
        gain=speeding_up(finding.share, *FASTER, what="moving bytes, a quarter of them at best"),
        by_hand=BY_HAND.format(where=loader.where or "where the data set is made"),
    )


MITIGATION = remedy(
    "smaller-batches",
    __doc__,
    treats=(("data_loading", "worker_handoff"), ("host_to_device", "bandwidth")),
    assess=assess,
)
