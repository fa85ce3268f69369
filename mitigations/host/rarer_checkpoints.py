"""Save checkpoints less often, or in the background.

Does: saves every so many steps that saving costs 1 % of the time, or copies the state and lets a
    thread write it while training goes on (asynchronous checkpoints).
Helps: large states, slow file systems, checkpoints after every few steps.
Avoid: saving so rarely that a crash costs more than was gained.
Safety: exact. The weights do not depend on when they are saved.
Place: system. The trained program stays.
Source: torch.distributed.checkpoint.async_save; Young (1974) on how often to save; no isolated
    figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import rarer
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

AIM = 0.01  # of the time, which nobody would feel
BY_HAND = """\
# {where}: save {times} times less often
# or write in the background: a copy in memory, then a thread of its own (for many ranks:
# torch.distributed.checkpoint.async_save(state, checkpoint_id=path))
state = {{name: value.detach().cpu().clone() for name, value in model.state_dict().items()}}
threading.Thread(target=torch.save, args=(state, path)).start()  # join before the next one"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if run.outside is None:
        return Misfit(reason="the time between steps was not measured")
    if run.outside.checkpoint_ms <= 0:
        return Misfit(reason="no checkpoint was seen being written")
    times = max(2, round(finding.share / AIM))
    return Fit(
        reason=f"saving takes {percent(finding.share)} of the time, {times} times less often 1 %",
        gain=rarer(
            finding.low,
            finding.high,
            times,
            what="writing checkpoints",
            same_cores=run.device == "cpu",
        ),
        parameters={"times_rarer": times},
        by_hand=BY_HAND.format(where=finding.where or "where torch.save is called", times=times),
    )


MITIGATION = remedy(
    "rarer-checkpoints", __doc__, treats=(("outside", "checkpoint"),), assess=assess
)
