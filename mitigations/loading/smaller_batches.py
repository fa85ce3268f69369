"""Hand over fewer bytes: uint8 instead of float32, converted where they are computed with.

Does: leaves images as uint8, and other numbers in the smallest type that holds them, until they
    have reached the training thread.
Helps: large batches that cross between processes: a quarter of the bytes of float32.
Avoid: samples that are not small numbers to begin with; transforms that need floats in the worker.
Safety: rounding. The same values, divided and normalised after the hand-over instead of before.
Place: system. The same samples, in a smaller type on the way.
Source: FFCV's performance guide lists it; that uint8 has a quarter of the bytes is arithmetic, no
    isolated published figure.
"""

from __future__ import annotations

from math import prod

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Batch, Loader, Run

LARGE = 1 << 20  # bytes: below 1 MiB a batch's size is not what it costs
WORTH = 1.3  # times fewer bytes
SHRINKS = {"float64": 8 / 4, "float32": 4 / 1, "int64": 8 / 4}  # to float32, uint8, int32
WIDTH = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2}
FIXED = 0.6  # of the promised ratio at least: labels and the fixed costs of a hand-over stay
FLOATING = ("ToTensor", "Normalize", "ConvertImageDtype", "ToDtype")  # images end in float32
BY_HAND = """\
# {where}: leave out ToTensor()/ToDtype()/Normalize() and end the chain with
transforms.PILToTensor()  # uint8, a quarter of the bytes
# in the training loop, after the batch has been copied to the device
# (mean and std of shape (3, 1, 1), on the device)
images = images.float().div_(255).sub_(mean).div_(std)
# batches that are no images: float32 instead of float64, int32 instead of int64"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    large = loader.batch_bytes if loader else None
    if loader is None or large is None:
        return Misfit(reason="the size of a batch was not measured")
    if large < LARGE:
        return Misfit(reason=f"a batch has {size(large)}: its size is not what it costs")
    ratio = shrinking(run, loader)
    if ratio is None:
        return Misfit(reason="the types that batches are made of were not recorded")
    if ratio < WORTH:
        return Misfit(reason=f"a batch of {size(large)} is in small types already")
    return Fit(
        reason=f"a batch has {size(large)}, in smaller types {size(large / ratio)}",
        gain=speeding_up(
            finding.share,
            max(FIXED * ratio, 1.0),
            ratio,
            what=f"moving bytes, {number(ratio)} times fewer at best",
        ),
        by_hand=BY_HAND.format(where=loader.where or "where the data set is made"),
    )


def shrinking(run: Run, loader: Loader) -> float | None:
    """Return how many times fewer bytes a batch may have, 1 where none; None: types unknown."""
    if run.batch is not None and run.batch.dtypes:
        return _of_types(run.batch)
    if any(step.name in FLOATING for step in loader.transforms):
        return SHRINKS["float32"]
    return None


def _of_types(batch: Batch) -> float:
    """Sum over the first batch's tensors; only float32 images, of four sizes, become uint8."""
    now = after = 0.0
    for shape, dtype in zip(batch.shapes, batch.dtypes, strict=False):
        amount = prod(shape) * WIDTH.get(dtype, 1)
        image = len(shape) == 4
        shrinks = SHRINKS.get(dtype, 1.0) if dtype != "float32" or image else 1.0
        now, after = now + amount, after + amount / shrinks
    return round(now / after, 1) if after else 1.0


MITIGATION = remedy(
    "smaller-batches",
    __doc__,
    treats=(("data_loading", "worker_handoff"),),
    assess=assess,
    conflicts=("normalise-on-device",),
)
