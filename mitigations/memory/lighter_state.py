"""What it gives to keep less of the state that Adam keeps."""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent, size
from speedprof.mitigations.memory.capacity import capacity, largest, not_binding, room_gain
from speedprof.mitigations.mitigation import Gain, Misfit
from speedprof.profiler.run import Run

NAMES = ("Adam", "AdamW")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lighter:
    """An optimizer whose state shrinks, and what the freed memory is worth."""

    name: str  # of the optimizer that is replaced
    reason: str
    state_bytes: float  # today
    times: float  # today's batch, at best
    gain: Gain


def lighter(
    run: Run, finding: Finding, *, freed: tuple[float, float], what: str, others: str
) -> Lighter | Misfit:
    """Return what it gives to free `freed` (at least and at most, 0..1) of Adam's state.

    `what` takes the state's place, in words; `others` says of an optimizer that is no Adam, by
    its `{name}`, why there is nothing to free.
    """
    hindrance = not_binding(run)
    if hindrance is not None:
        return hindrance
    held, optimizer = capacity(run), largest(run)
    if held is None or optimizer is None:
        return Misfit(reason="the model or its optimizer was not seen")
    if optimizer.name not in NAMES:
        return Misfit(reason=others.format(name=optimizer.name))
    least, most = (held.times(part * held.states) for part in freed)
    gain = room_gain(run, finding, times=(least, most), what=what)
    if isinstance(gain, Misfit):
        return gain
    return Lighter(
        name=optimizer.name,
        reason=f"the state of {optimizer.name} takes {size(held.states)} of memory that is "
        f"{percent(held.peak / held.total)} full",
        state_bytes=held.states,
        times=most,
        gain=gain,
    )
