"""Exchange only the largest gradients, or their signs.

Does: sends the top 1 % of the gradients (deep gradient compression), one bit each (1-bit SGD) or
    their signs (signSGD), and keeps the rest as an error for later steps.
Helps: links of 1 Gbit/s and less, in theory by 30 times fewer bytes and more.
Avoid: fast links; all-reduce: sparse gradients of ranks do not add up in place and are gathered.
Safety: changes_training. Most of each gradient comes late or coarse.
Place: remove x optimization. Gradients that are small are not exchanged (signs: restrict).
Source: Agarwal et al., MLSys 2022 (2103.00543), "On the utility of gradient compression"; PowerSGD
    paper (1905.13727).
Against: of over 200 setups in data centres compression was faster in 6 (MLSys 2022): selecting and
    coding take longer than the bytes saved; PowerSGD, which all-reduce can sum, is the one to try.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.compression import unsuited
from speedprof.mitigations.communication.wrapping import link_gb_per_s
from speedprof.mitigations.communication_gains import fixed_part, smaller
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

RATIO = 30.0  # one bit instead of 32, or the top 1 % with their indices, gathered from all ranks
CODING = 0.9  # of the exchange, assumed: in the published comparison it was more than all of it
BY_HAND = """\
# no hook of PyTorch's own does this; compare with powersgd first
model.register_comm_hook(state, your_compressing_hook)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    exchange, speed = run.communication, link_gb_per_s(run)
    if exchange is None or speed is None or not exchange.transfer_ms:
        return Misfit(reason="bytes and time of the exchange were not measured")
    fixed = fixed_part(exchange.transfer_ms, exchange.collectives)
    return Fit(
        reason=f"gradients travel at {number(speed)} GB/s, {percent(finding.share)} of the step",
        gain=smaller(finding.low, finding.high, ratio=RATIO, fixed=fixed, coding=CODING),
        by_hand=BY_HAND,
    )


MITIGATION = remedy(
    "sparse-gradients",
    __doc__,
    treats=(("communication", "transfer"),),
    assess=assess,
    conflicts=("bf16-gradients", "powersgd"),
    after=("powersgd",),
)
