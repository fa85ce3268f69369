"""Give the late rank less to wait for.

Does: finds what makes one rank late (its data, its node, rank 0's extra work, shared cores) and
    evens it out: batches balanced by length, ranks pinned to cores near their GPU, launches in
    CUDA graphs.
Helps: one rank that is late most of the time, while all the others wait inside the exchange.
Avoid: tuning the network: it is idle meanwhile.
Safety: exact. Work that is not training moves; balancing samples by length changes their order.
Place: system. The same work, spread more evenly.
Source: PyTorch performance tuning guide (balance the load); PyTorch CUDA graphs post (graphs
    lessen the skew of launches before collectives); published traces of 8 GPUs: 50 ms of
    transfer in 241 to 495 ms of collectives, the rest waiting for two ranks.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Rank, Run

REASONS = {
    "data_loading": "compare its loader and its shard with the others': files, sizes, workers, "
    "local disk",
    "host_to_device": "compare its batches and its PCIe link with the others'",
    "compute": "compare lengths of its samples, and the clock and temperature of its device",
    "host": "look for work that this rank alone does in the step: logging, metrics, other "
    "programs",
    "outside": "let checkpoints and evaluation run on all ranks in turn, or in the background",
}
UNKNOWN = "compare this rank's node, device clocks, data and extra work with the others'"


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    exchange = run.communication
    if exchange is None or exchange.late_rank is None:
        return Misfit(reason="no one rank was seen to be late")
    late = exchange.late_rank
    part = 1.0 if exchange.late_rank_share is None else exchange.late_rank_share
    advice = REASONS.get(exchange.late_rank_phase or "", UNKNOWN)
    return Fit(
        reason=f"rank {late}{_place(run, late)} causes {percent(part)} of the waiting",
        gain=removing(
            finding.low * part, finding.high * part, what=f"waiting for rank {late}", at_least=0.5
        ),
        parameters={"rank": late},
        by_hand=f"# rank {late}{_place(run, late)}: {advice}",
    )


def _place(run: Run, late: int) -> str:
    found: Rank | None = next((rank for rank in run.ranks if rank.rank == late), None)
    return f" on {found.node}" if found and run.kind != "trace" else ""


MITIGATION = remedy(
    "balanced-ranks", __doc__, treats=(("communication", "straggler"),), assess=assess
)
