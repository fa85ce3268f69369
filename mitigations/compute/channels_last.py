"""Store images channels last.

Does: converts the convolutional model and its input to `torch.channels_last`.
Helps: convolutions in mixed precision on GPUs, and in float32 on CPUs with AVX-512.
Avoid: models with few convolutions, or with operators that convert back and forth.
Safety: rounding. The same sums, computed by other kernels.
Place: system. The same values in another order in memory.
Source: PyTorch channels-last tutorial: +22 % for ResNet-50 with AMP, 8 % to 35 % on Volta, 26 % to
    76 % on Ice Lake CPUs.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WORTH = 0.2  # of the step in convolutions
FASTER = {
    "cpu": (1.0, 1.76),
    "cuda": (1.0, 1.35),
}  # 1.0: nothing is published for the rest of the machines
BY_HAND = """\
model = model.to(memory_format=torch.channels_last)  # once, after moving it to the device
images = images.to(memory_format=torch.channels_last)  # each batch of shape (N, C, H, W)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    if run.device not in FASTER:
        return Misfit(reason=f"what the layout does on {run.device} is not known here")
    convolutions = facts.kinds_share(run, "convolution")
    if convolutions is None:
        return Misfit(reason="the kinds of operators were not measured")
    if convolutions < WORTH:
        return Misfit(reason=f"only {percent(convolutions)} of the step are convolutions")
    around = facts.kinds_share(run, "convolution", "normalisation") or convolutions
    slowest, fastest = FASTER[run.device]
    return Fit(
        reason=f"{percent(convolutions)} of the step are convolutions",
        gain=speeding_up(around, slowest, fastest, what="convolutions and normalisation"),
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "channels-last",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
)
