"""Send images as uint8 and normalise them on the device.

Does: copies uint8 images, a quarter of the bytes of float32, and converts and normalises them
    where they are computed with.
Helps: copies that the link limits, however they are made; and workers that need not convert.
Avoid: batches that are not images; transforms after the normalisation that need floats.
Safety: rounding. The same values, divided and normalised by the device instead of the host.
Place: system (nearest action: restrict x data). The same images in a smaller type on the way.
Source: FFCV's performance guide lists the choice, and the opposite one where the GPU is the limit;
    a quarter of the bytes is arithmetic, no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.loading.smaller_batches import shrinking
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WORTH = 1.5  # times fewer bytes
FIXED = 0.6  # of the ratio at least: a copy has fixed costs, and the device has to convert
BY_HAND = """\
# {where}: leave out ToTensor()/ToDtype()/Normalize() and end the chain with
transforms.PILToTensor()  # uint8
# once, and then in the training loop, after the copy
mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)  # your own
std = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)
images = images.to(device, non_blocking=True).float().div_(255).sub_(mean).div_(std)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if not facts.is_gpu(run):
        return Misfit(
            reason=f"nothing is copied to another device: the training runs on {run.device}"
        )
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    ratio = shrinking(run, loader)
    if ratio is None:
        return Misfit(reason="the types that batches are made of were not recorded")
    if ratio < WORTH:
        return Misfit(reason="the batches are no float32 images: their types are small already")
    amount = run.copies.bytes if run.copies and run.copies.bytes else loader.batch_bytes
    if not amount:
        return Misfit(reason="the size of what is copied was not measured")
    return Fit(
        reason=f"{size(amount)} are copied in each step; with images as uint8 it would be "
        f"{size(amount / ratio)}",
        gain=speeding_up(
            finding.share,
            max(FIXED * ratio, 1.0),
            ratio,
            what=f"copying, {number(ratio)} times fewer bytes at best",
        ),
        by_hand=BY_HAND.format(where=loader.where or "where the data set is made"),
    )


MITIGATION = remedy(
    "normalise-on-device",
    __doc__,
    treats=(("host_to_device", "bandwidth"), ("host_to_device", "pageable_memory")),
    assess=assess,
    conflicts=("smaller-batches",),
)
