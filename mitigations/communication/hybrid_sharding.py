"""Shard within a node, replicate between nodes.

Does: gives FSDP a mesh of two dimensions (HSDP): parameters are gathered inside each node, and
    only gradients are summed between nodes.
Helps: fully sharded models on several nodes whose network is slower than the links inside.
Avoid: models that need the memory of all nodes: each node holds a whole replica.
Safety: rounding. Gradients are summed in other groups.
Place: system. The same training, stored in other pieces.
Source: PyTorch FSDP (2304.11277) and its documentation: sharding fully communicates more than DDP;
    IBM's fms-fsdp trains 7B models with it at 3,700 tokens/s on each A100 (no comparison given).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.wrapping import nodes, sharded_models
from speedprof.mitigations.communication_gains import less_between_nodes, narrowed
from speedprof.mitigations.gains import amdahl
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

STATES = 4  # times the parameters: parameters, gradients and Adam's two moments
LEAST = 1.1  # times as fast: gathering inside a node takes its time, too
BY_HAND = """\
mesh = torch.distributed.device_mesh.init_device_mesh(
    "cuda", ({nodes}, {within}), mesh_dim_names=("replicate", "shard")
)
fully_shard(model, mesh=mesh)
# or: FullyShardedDataParallel(model, device_mesh=mesh,
#     sharding_strategy=ShardingStrategy.HYBRID_SHARD)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not sharded_models(run):
        return Misfit(reason="no model was seen inside FSDP")
    count = nodes(run)
    if count is None:
        return Misfit(reason="on which nodes the ranks run was not recorded")
    within = len(run.ranks) // count
    if count == 1 or within < 2:
        return Misfit(reason=f"{len(run.ranks)} ranks on {count} nodes: no node to shard within")
    hindrance = _too_full(run, within)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    fewer = less_between_nodes(count)
    return Fit(
        reason=f"parameters travel between {count} nodes in forward and backward; exchanging "
        f"takes {percent(finding.share)} of the step",
        gain=narrowed(
            amdahl(finding.low, LEAST),
            amdahl(finding.high, fewer),
            f"Amdahl: {percent(finding.share)} of the step (exchanging) runs {LEAST:g} to "
            f"{fewer:.2g} times as fast, with {fewer:.2g} times fewer bytes between nodes",
        ),
        parameters={"replicate": count, "shard": within},
        by_hand=BY_HAND.format(nodes=count, within=within),
    )


def _too_full(run: Run, within: int) -> str | None:
    """Return why a replica per node does not fit, None where it does or memory was not seen."""
    whole = STATES * sum(model.bytes for model in sharded_models(run))
    more = whole / within - whole / len(run.ranks)
    for rank in run.ranks:
        peak, have = rank.peak_device_bytes, rank.device_memory_bytes
        if peak and have and peak + more > have:
            return f"a replica per node needs {size(more)} more, and {size(have - peak)} are free"
    return None


MITIGATION = remedy(
    "hybrid-sharding", __doc__, treats=(("communication", "transfer"),), assess=assess
)
