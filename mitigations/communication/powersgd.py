"""Exchange low-rank factors of the gradients.

Does: registers DDP's PowerSGD hook: each gradient matrix travels as two thin factors of rank 1 to
    4, with error feedback and warm start, after a tenth of the steps without it.
Helps: slow links (10 Gbit/s and less) and models of large matrices.
Avoid: fast links; full device memory: error feedback needs as much memory as the gradients.
Safety: changes_training. Gradients are approximated; the error is added to the next ones.
Place: restrict x optimization. Gradients of low rank.
Source: Vogels et al., NeurIPS 2019 (1905.13727): "consistent wall-clock speedups" over SGD with an
    optimised backend, on 16 GPUs; PyTorch's hook (start after 10 % of the steps, at least 2); in
    data centres compression of any kind was faster in 6 of over 200 cases (MLSys 2022).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.compression import unsuited
from speedprof.mitigations.communication.wrapping import ddp_models, link_gb_per_s
from speedprof.mitigations.communication_gains import fixed_part, smaller
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

RANK = 2
RATIO = 10.0  # careful: matrices shrink 50 times and more, vectors not at all
CODING = 0.5  # of the exchange, assumed: two products, an orthogonalisation and two exchanges
START = 0.1  # of the steps are exchanged in full (PyTorch's advice)
BY_HAND = """\
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook
state = powerSGD_hook.PowerSGDState(
    process_group=torch.distributed.group.WORLD, matrix_approximation_rank={rank},
    start_powerSGD_iter=max(2, total_steps // 10),
)
model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)  # the one inside DDP"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = unsuited(run) or _too_full(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    exchange, speed = run.communication, link_gb_per_s(run)
    if exchange is None or speed is None or not exchange.transfer_ms:
        return Misfit(reason="bytes and time of the exchange were not measured")
    after = 1.0 - START
    fixed = fixed_part(exchange.transfer_ms, exchange.collectives)
    return Fit(
        reason=f"{size(exchange.bytes or 0)} of gradients travel at {number(speed)} GB/s, "
        f"{percent(finding.share)} of the step",
        gain=smaller(
            after * finding.low, after * finding.high, ratio=RATIO, fixed=fixed, coding=CODING
        ),
        parameters={"rank": RANK},
        by_hand=BY_HAND.format(rank=RANK),
    )


def _too_full(run: Run) -> str | None:
    """Return why error feedback does not fit, None where it does or memory was not seen."""
    need = sum(model.bytes for model in ddp_models(run))
    for rank in run.ranks:
        peak, have = rank.peak_device_bytes, rank.device_memory_bytes
        if peak and have and peak + need > have:
            return f"error feedback needs {size(need)}, and {size(have - peak)} are free"
    return None


MITIGATION = remedy(
    "powersgd",
    __doc__,
    treats=(("communication", "transfer"),),
    assess=assess,
    how="patch",
    conflicts=("bf16-gradients", "sparse-gradients"),
    after=("no-sync", "ddp-buckets", "bf16-gradients"),
)
