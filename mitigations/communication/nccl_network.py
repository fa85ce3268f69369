"""Let NCCL use the fast links that are there.

Does: looks at which links NCCL chose (`NCCL_DEBUG=INFO`) and which exist (`nvidia-smi topo -m`,
    `ibstat`), and clears what keeps it from NVLink, InfiniBand or the right interface.
Helps: exchanges much slower than the links of the machines: sockets instead of InfiniBand, a
    management network, peer-to-peer switched off, ranks that are not next to their network card.
Avoid: links that are slow by nature; turning knobs without measuring.
Safety: exact. The same bytes take another way.
Place: system. Nothing of the training changes.
Source: NVIDIA's NCCL documentation (environment variables, troubleshooting). No published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.wrapping import link_gb_per_s, nodes
from speedprof.mitigations.communication_gains import narrowed
from speedprof.mitigations.gains import amdahl
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

# What links of GPU machines give at the least: half of PCIe 3 x16 inside, 25 Gbit/s between.
WITHIN_GB_PER_S = 6.0
BETWEEN_GB_PER_S = 3.0
DISABLING = ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SHM_DISABLE")
BY_HAND = """\
nvidia-smi topo -m; ibstat            # which links are there
NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET,GRAPH torchrun ...  # which NCCL takes: P2P, SHM, NET/IB
# NET/Socket between nodes with InfiniBand: unset NCCL_IB_DISABLE, check drivers in the container
# a slow interface: NCCL_SOCKET_IFNAME=<the fast one>
# no P2P within a node: unset NCCL_P2P_DISABLE; PCIe access control (ACS) off
{disabled}"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = _elsewhere(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    speed, count = link_gb_per_s(run), nodes(run)
    if speed is None:
        return Misfit(reason="bytes and time of the exchange were not measured")
    if count is None:
        return Misfit(reason="on which nodes the ranks run was not recorded")
    usual = WITHIN_GB_PER_S if count == 1 else BETWEEN_GB_PER_S
    disabled = [name for name in DISABLING if run.environment.flags.get(name) in ("1", "2")]
    if speed >= usual:
        return Misfit(reason=f"{number(speed)} GB/s: the exchange is not slow for its links")
    where = "within a node" if count == 1 else f"between {count} nodes"
    cause = f", and {', '.join(disabled)} is set" if disabled else ""
    return Fit(
        reason=f"gradients travel at {number(speed)} GB/s {where}, where {usual:g} GB/s are usual"
        f"{cause}",
        gain=narrowed(
            1.0,
            amdahl(finding.share, usual / speed),
            f"Amdahl: {percent(finding.share)} of the step (exchanging) at up to {usual:g} "
            f"instead of {number(speed)} GB/s, if there is such a link",
        ),
        by_hand=BY_HAND.format(disabled="".join(f"unset {name}\n" for name in disabled)).strip(),
    )


def _elsewhere(run: Run) -> str | None:
    """Return why NCCL is not what exchanges gradients here, None where it is."""
    if not facts.is_gpu(run):
        return f"the training runs on {run.device}: NCCL is for GPUs"
    backend = run.environment.flags.get("backend")
    if backend is None:
        return "which library exchanges gradients was not recorded"
    if "nccl" not in backend:
        return f"gradients are exchanged by {backend}; NCCL is the one for GPUs"
    return None


MITIGATION = remedy(
    "nccl-network", __doc__, treats=(("communication", "transfer"),), assess=assess
)
