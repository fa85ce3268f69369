"""Exchange gradients in bf16.

Does: registers DDP's `bf16_compress_hook`: gradients travel in half the bytes and are summed in
    bf16.
Helps: slow links, on which bytes decide.
Avoid: fast links: in data centres compression was faster in 6 of over 200 cases (MLSys 2022);
    gradients that are in half precision already.
Safety: changes_training. Gradients lose 16 of 24 bits of mantissa on the way; check the loss
    curve.
Place: restrict x optimization. The same gradients in a smaller type.
Source: PyTorch DDP communication hooks; Agarwal et al., "On the utility of gradient compression"
    (2103.00543).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.compression import unsuited
from speedprof.mitigations.communication.wrapping import link_gb_per_s
from speedprof.mitigations.communication_gains import fixed_part, smaller
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

RATIO = 2.0
CODING = 0.25  # of the exchange, assumed: casting twice, and sums that wait for it
BY_HAND = """\
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
# model: the one inside DistributedDataParallel
model.register_comm_hook(None, default_hooks.bf16_compress_hook)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    exchange, speed = run.communication, link_gb_per_s(run)
    hindrance = unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    if exchange is None or speed is None or not exchange.transfer_ms:
        return Misfit(reason="bytes and time of the exchange were not measured")
    if facts.dtypes(run) and "float32" not in facts.dtypes(run):
        kinds = ", ".join(sorted(facts.dtypes(run)))
        return Misfit(reason=f"gradients are in {kinds} already")
    fixed = fixed_part(exchange.transfer_ms, exchange.collectives)
    return Fit(
        reason=f"gradients travel at {number(speed)} GB/s, {percent(finding.share)} of the step",
        gain=smaller(finding.low, finding.high, ratio=RATIO, fixed=fixed, coding=CODING),
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "bf16-gradients",
    __doc__,
    treats=(("communication", "transfer"),),
    assess=assess,
    conflicts=("powersgd", "sparse-gradients"),
    after=("no-sync", "ddp-buckets"),
)
