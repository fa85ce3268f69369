"""The GPU runs below its clock because it is too hot, or was told to.

Does: says how much of the step a lower clock costs.
Why: no change of the script brings it back; cooling, power supply or a setting of the card does.
Evidence: the launcher's looks at clock and throttle reasons while the GPU was at work, against
    the card's highest clock, for computing that arithmetic limits: memory has a clock of its own.
Threshold: a clock 15 % below the highest (gpuprof's, together with 82 C; here the driver's own
    reason counts, not a temperature), costing 5 % of the step. Of a card at its power cap nothing
    is said: that is how large products run on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.arithmetic_bound import COMPUTE_SHARE
from speedprof.advisor.shares import finding, number, percent, worth_naming
from speedprof.profiler.run import GpuSample, Run

NAME = "throttled-device"
AT_WORK = 0.5  # utilisation of a look that counts
SLOWER = 0.15  # below the highest clock
FEWEST = 5  # looks
TROUBLE = (
    "hardware slowdown", "software thermal limit", "hardware thermal limit", "power brake",
    "clocks set by an application",
)  # fmt: skip


def check(run: Run) -> Finding | None:
    if run.compute is None or run.compute.bound != "arithmetic":
        return None
    looks = list(_at_work(run))
    slow = [look for look in looks if _lost(look) >= SLOWER and _trouble(look)]
    if len(looks) < FEWEST or not slow:
        return None
    lost = sum(_lost(look) for look in slow) / len(looks)
    cost = worth_naming(run, "compute", lost)
    if cost is None or (run.share("compute") or 0.0) < COMPUTE_SHARE:
        return None
    clock = sum(look.sm_mhz or 0 for look in slow) / len(slow)
    highest = max(look.max_sm_mhz or 0 for look in slow)
    why = Counter(_trouble(look) for look in slow).most_common(1)[0][0]
    evidence = (
        f"in {percent(len(slow) / len(looks))} of its working time the GPU ran at {number(clock)} "
        f"of {number(highest)} MHz ({why}), which costs up to {cost.text} of each step"
    )
    return finding(replace(cost, low=cost.low / 2), NAME, "arithmetic", evidence=evidence)


def _at_work(run: Run) -> Iterator[GpuSample]:
    """Yield the looks at GPUs while they worked and their clocks are known."""
    for machine in run.machines:
        for sample in machine.samples:
            for gpu in sample.gpus:
                if gpu.sm_mhz and gpu.max_sm_mhz and (gpu.utilisation or 0.0) >= AT_WORK:
                    yield gpu


def _lost(look: GpuSample) -> float:
    """Return the part of its highest clock that the GPU does without."""
    return 1.0 - (look.sm_mhz or 0) / look.max_sm_mhz if look.max_sm_mhz else 0.0


def _trouble(look: GpuSample) -> str:
    """Return the reasons that nobody wants, "" where there is none."""
    told = look.throttled or ""
    return " and ".join(reason for reason in TROUBLE if reason in told)
