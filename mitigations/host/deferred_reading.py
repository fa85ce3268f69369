"""Read values from the device later, or less often.

Does: keeps losses and metrics on the device, and reads them every so many steps instead of each
    step.
Helps: `.item()`, `.cpu()`, `nonzero`, `print(tensor)` and `if tensor` in the loop, after which
    the device runs dry.
Avoid: values that decide what the next step does.
Safety: exact. The same numbers, read later.
Place: system. The trained program stays, its report comes later.
Source: PyTorch performance tuning guide (avoid unnecessary synchronisation); no isolated published
    figure.
"""

from __future__ import annotations

import math

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, step_ms, top_line
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import overlapped, removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Line, Run

EVERY = 50
WORTH = 0.01  # of the step in one line
LEAST = 0.5  # of the wait: with the queue full again, other things limit the step
BY_HAND = """\
# {where}: instead of {what} at every step
total_loss += loss.detach()  # stays on the device
if step % {every} == 0:
    print(total_loss.item() / {every}); total_loss.zero_()"""

WORK = ("compute", "communication")
MOST_AHEAD = 8  # steps: answers that are older are seldom wanted
AHEAD = """\
# {where}: ask {ahead} steps ahead, in as many threads, and take each answer when it is needed
pending.append(executor.submit(ask, step + {ahead}))  # before this step's forward pass
answer = pending.popleft().result()  # pending: a collections.deque of the steps before"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    worst = max(run.sync_calls, key=lambda call: call.ms_per_step, default=None)
    if worst is not None and worst.ms_per_step < WORTH * (step_ms(run) or 0.0):
        few = f"{number(worst.ms_per_step)} ms a step"
        return Misfit(reason=f"the longest read from the device takes only {few}")
    if worst is not None:
        often = f"{number(worst.calls_per_step)} times a step"
        return Fit(
            reason=f"{worst.what} at {worst.where} runs {often}, {number(worst.ms_per_step)} ms",
            gain=removing(
                finding.low, finding.high, what="waiting for the device", at_least=LEAST
            ),
            parameters={"every": EVERY},
            by_hand=BY_HAND.format(where=worst.where, what=worst.what, every=EVERY),
        )
    line = top_line(run, "host", "waiting")
    if line is None:
        return Misfit(reason="which calls wait was not measured")
    if any(_works(one, line) for one in run.lines):
        return Misfit(reason=f"{line.where} computes for longer than it waits for anything")
    waited = min(finding.low, line.share)
    ahead = min(max(1, math.ceil(waited / max(1.0 - waited, 0.01))), MOST_AHEAD)
    return Fit(
        reason=f"{percent(line.share)} of the step are waited away at {line.where}",
        gain=overlapped(waited, finding.high, what="waiting", at_once=ahead),
        parameters={"ahead": ahead},
        by_hand=AHEAD.format(where=line.where, ahead=ahead),
    )


def _works(one: Line, waiting: Line) -> bool:
    """Tell whether the line that waits computes for longer: `loss.backward()`, `trainer.fit()`."""
    return one.where == waiting.where and one.phase in WORK and one.share > waiting.share


MITIGATION = remedy(
    "deferred-reading",
    __doc__,
    treats=(("host", "synchronisation"),),
    assess=assess,
    how="patch",
)
