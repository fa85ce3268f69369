"""Compute in half precision where it is safe: automatic mixed precision.

Does: runs forward and loss under `torch.autocast(dtype=torch.bfloat16)`; weights and updates stay
    float32. GPUs before Ampere have units for fp16 alone: fp16-autocast is for them.
Helps: matrix products, convolutions and attention, on devices with units for it; half the bytes
    elsewhere.
Avoid: devices without such units; steps that wait for data; models in half precision already.
Safety: rounding. The same maths with 8 bits of mantissa in products; compare the loss curves.
Place: system (nearest action: restrict x function). The program's meaning stays.
Source: PyTorch AMP post (2020): 1.5x to 5.5x over float32 on V100 with fp16; NERSC's SC23
    tutorial on A100: 13.3 samples/s with TF32, 42.6 with bf16; PyTorch tuning guide: up to 3x.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import half_precision
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

BY_HAND = """\
with torch.autocast("{device}", dtype=torch.bfloat16):  # around forward and loss, not backward
    loss = loss_function(model(inputs), targets)
loss.backward()"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    device = "cuda" if facts.is_gpu(run) else run.device
    found = half_precision.fit(run, finding, "bf16", BY_HAND.format(device=device))
    if isinstance(found, Fit) and half_precision.type_of(run) == "fp16":
        return Misfit(reason="the GPU has units for fp16 alone; fp16-autocast is for it")
    return found


MITIGATION = remedy(
    "bf16-autocast",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
    how="patch",
    conflicts=("fp16-autocast",),
)
