"""The device is busy with arithmetic.

Does: says that the step is spent in matrix products and convolutions.
Why: only lower precision, less work or a faster device shorten it; loading is not the problem.
Evidence: the compute phase and its operators by kind, in the recorded windows.
Threshold: half of the step; below it even a 1.5x faster model gives less than 1.2x. It is the
    verdict from 75 %.
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import Part, finding, number, part
from speedprof.profiler.run import Run

NAME = "arithmetic-bound"
COMPUTE_SHARE = 0.5


def check(run: Run) -> Finding | None:
    return bound_by(run, "arithmetic", NAME)


def bound_by(run: Run, bound: str, rule: str) -> Finding | None:
    """Return the finding where compute is large and limited by `bound`."""
    cost = part(run, "compute", 1.0)
    if run.compute is None or run.compute.bound != bound or cost is None:
        return None
    if cost.share < COMPUTE_SHARE:
        return None
    return finding(cost, rule, bound, evidence=compute_evidence(run, cost))


def compute_evidence(run: Run, cost: Part) -> str:
    """Say how much is computed and in which kinds of operators most of it."""
    kinds = sorted((run.compute.kinds if run.compute else {}).items(), key=lambda kind: -kind[1])
    total = sum(ms for _, ms in kinds)
    top = ", ".join(f"{kind} {100 * ms / total:.0f} %" for kind, ms in kinds[:3] if total > 0)
    inside = f", of it {top}" if top else ""
    device = "the CPU" if run.device == "cpu" else f"the {run.device.upper()} device"
    around = circumstances.joined(
        circumstances.arithmetic_roof(run), circumstances.without_cudnn(run)
    )
    return (
        f"{device} computes {number(cost.ms)} of {number(cost.step_ms)} ms of each step"
        f"{inside}{around}"
    )
