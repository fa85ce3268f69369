"""Compute in fp16 with a scaled loss, on GPUs that have no units for bf16.

Does: runs the forward pass under `torch.autocast(dtype=torch.float16)`, multiplies the loss by a
    scale before backward and divides the gradients by it, since fp16 has a small range; an update
    whose gradients overflow is left out, and the scale halved.
Helps: matrix products, convolutions and attention on GPUs of compute capability 7.0 to 7.5.
Avoid: GPUs since Ampere, whose bf16 needs no scale; optimizers that call the model themselves
    (LBFGS); models in half precision already.
Safety: changes_training. Products have 11 bits of mantissa and few of exponent: updates are left
    out now and then; check the loss curve.
Place: restrict x function. The same function in a smaller type.
Source: Micikevicius et al. (ICLR 2018), "Mixed precision training"; PyTorch AMP post (2020): 1.5x
    to 5.5x over float32 on V100.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import half_precision
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

BY_HAND = """\
scaler = torch.amp.GradScaler("cuda")  # once; fp16 has a small range, so the loss is scaled
with torch.autocast("cuda", dtype=torch.float16):  # around forward and loss, not backward
    loss = loss_function(model(inputs), targets)
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    found = half_precision.fit(run, finding, "fp16", BY_HAND)
    if isinstance(found, Fit) and half_precision.type_of(run) != "fp16":
        return Misfit(reason="the device has units for bf16, which needs no scaled loss")
    return found


MITIGATION = remedy(
    "fp16-autocast",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
    conflicts=("bf16-autocast",),
)
