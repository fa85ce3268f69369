"""Exchange gradients in bf16.

Does: registers DDP's `bf16_compress_hook`: gradients travel in half the bytes and are summed in
    bf16.
Helps: slow links, on which bytes decide.
Avoid: fast links: in data centres compression was faster in 6 of over 200 cases (MLSys 2022).
Safety: changes_training. Gradients lose 16 of 24 bits of mantissa on the way; check the loss
    curve.
Place: restrict x optimization. The same gradients in a smaller type.
Source: PyTorch DDP communication hooks; Agarwal et al., "On the utility of gradient compression"
    (2103.00543).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WRAPPER = "DistributedDataParallel"
FAST_GB_PER_S = (
    5.0  # a link faster than 40 Gbit/s is the data centre's, where compression did not pay
)
BY_HAND = """\
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
# model: the one inside DistributedDataParallel
model.register_comm_hook(None, default_hooks.bf16_compress_hook)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    exchange = run.communication
    if not any(model.wrapped == WRAPPER for model in run.models):
        return Misfit(reason="no model was seen inside DistributedDataParallel")
    if exchange is None or not exchange.bytes or not exchange.transfer_ms:
        return Misfit(reason="bytes and time of the exchange were not measured")
    speed = exchange.bytes / exchange.transfer_ms / 1e6
    if speed > FAST_GB_PER_S:
        return Misfit(reason=f"{number(speed)} GB/s is a fast link: compression seldom pays there")
    return Fit(
        reason=f"gradients travel at {number(speed)} GB/s, {percent(finding.share)} of the step",
        gain=speeding_up(finding.share, 1.1, 2.0, what="exchanging half the bytes"),
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "bf16-gradients", __doc__, treats=(("communication", "transfer"),), assess=assess
)
