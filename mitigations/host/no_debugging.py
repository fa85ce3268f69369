"""Switch off what was switched on to find a bug.

Does: turns off anomaly detection, blocking launches, the detailed checks of collectives, and
    profilers or tracers that were left on.
Helps: trainings that still run as they were debugged: each of these makes the host or the backward
    pass do more than the training needs.
Avoid: while the bug is still looked for. Deterministic algorithms cost time, too, but are a
    decision: they are named, not advised against.
Safety: exact. Checks look at the values and leave them as they are.
Place: system. What is trained stays.
Source: PyTorch performance tuning guide, which lists these switches; no isolated published figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import ceiling, removing
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

LEAST = 0.3  # of the finding: the same work takes some time without the switch
# Anomaly detection looks at every gradient for NaN, one pass beside the several of the operator
# that made it: assumed from passes, not measured.
CHECKING = (0.1, 0.5)  # of the backward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One thing left on, what it makes slower, and the line that turns it off."""

    flag: str
    on: tuple[str, ...]  # values that mean it is on; empty: any
    costs: tuple[tuple[str, str | None], ...]  # (phase, cause)
    off: str


HOST = (("host", "python"), ("host", "launch"), ("host", "synchronisation"))
BACKWARD = (("compute", "arithmetic"), ("compute", "memory_bandwidth"))
EXCHANGE = (("communication", "transfer"), ("communication", "straggler"))
SWITCHES = (
    Switch(flag="anomaly_detection", on=("True",), costs=HOST + BACKWARD,
           off="torch.autograd.set_detect_anomaly(False)"),
    Switch(flag="CUDA_LAUNCH_BLOCKING", on=("1",), costs=HOST[1:],
           off="unset CUDA_LAUNCH_BLOCKING  # in the shell"),
    Switch(flag="TORCH_DISTRIBUTED_DEBUG", on=("DETAIL",), costs=EXCHANGE,
           off="unset TORCH_DISTRIBUTED_DEBUG  # in the shell"),
    Switch(flag="profilers", on=(), costs=HOST[:2],
           off="# no profiler, tracer or debugger around the training loop"),
)  # fmt: skip


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    flags = run.environment.flags
    if "anomaly_detection" not in flags:
        return Misfit(reason="which debugging switches are on was not recorded")
    left_on = [switch for switch in SWITCHES if _is_on(flags.get(switch.flag), switch)]
    slow = [switch for switch in left_on if _costs(switch, finding)]
    if not slow:
        others = ", ".join(switch.flag for switch in left_on)
        return Misfit(
            reason=f"{others} does not make this slower" if others else "no such switch is on"
        )
    gain = _gain(run, finding)
    if gain is None:
        return Misfit(reason="the time of the backward pass was not measured")
    named = ", ".join(f"{switch.flag} is {flags[switch.flag]}" for switch in slow)
    also = flags.get("deterministic_algorithms") == "True"
    cost = "; deterministic algorithms cost time, too" if also else ""
    return Fit(
        reason=f"{named}, and the finding takes {percent(finding.share)} of the step{cost}",
        gain=gain,
        by_hand="\n".join(switch.off for switch in slow),
    )


def _gain(run: Run, finding: Finding) -> Gain | None:
    if finding.phase != "compute":
        gain = removing(finding.low, finding.high, what="with the switch on", at_least=LEAST)
        return bounded(gain.low, gain.high, gain.model)
    step, backward = step_ms(run), run.compute.backward_ms if run.compute else None
    if not step or backward is None:
        return None
    least, most = (backward / step * part for part in CHECKING)
    gain = removing(least, most, what="looking for NaN in every gradient")
    return bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high))


def _is_on(value: str | None, switch: Switch) -> bool:
    return value in switch.on if switch.on else bool(value)


def _costs(switch: Switch, finding: Finding) -> bool:
    return any(
        phase == finding.phase and finding.cause in (None, cause) for phase, cause in switch.costs
    )


MITIGATION = remedy(
    "no-debugging", __doc__, treats=HOST + BACKWARD + EXCHANGE, assess=assess, how="patch"
)
