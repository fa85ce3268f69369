"""Do the script's own work less often, or outside the loop.

Does: moves bookkeeping, logging and metrics out of the step, or does them every so many steps.
Helps: Python that keeps the device waiting, and work between steps, at a line that was seen.
Avoid: work that the training itself depends on.
Safety: exact. The weights do not depend on what is reported, if only reporting is moved.
Place: system. The trained program stays.
Source: PyTorch performance tuning guide; Amdahl's law for how much; no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import rarer
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Line, Run

EVERY = 50
WORTH = 0.02  # of the step
BY_HAND = """\
# {where}{code}
if step % {every} == 0:  # instead of at every step; or vectorise it, or move it to a worker
    ..."""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    line = _line(run, finding)
    if line is None:
        return Misfit(reason="no source line was seen that takes this time")
    if line.share < WORTH:
        return Misfit(reason=f"the costliest line takes only {percent(line.share)} of the step")
    low, high = _on_the_way(run, finding, line)
    return Fit(
        reason=f"{percent(line.share)} of the step were seen at {line.where} in {line.function}",
        gain=rarer(low, high, EVERY, what=f"at {line.where}", same_cores=run.device == "cpu"),
        parameters={"every": EVERY},
        by_hand=BY_HAND.format(
            where=line.where, code=f": {line.code.strip()}" if line.code else "", every=EVERY
        ),
    )


def _on_the_way(run: Run, finding: Finding, line: Line) -> tuple[float, float]:
    """Return the share of the step that goes with the line.

    What keeps the late rank keeps them all: of the ranks' mean, the others' waiting goes, too.
    """
    exchange, phase = run.communication, finding.phase
    late = exchange.late_rank if exchange and exchange.late_rank_phase == phase else None
    own = next((rank.phases for rank in run.ranks if rank.rank == late and rank.phases), None)
    if late is None or own is None:
        part = min(1.0, line.share / max(finding.share, 1e-9))
        return finding.low * part, finding.high * part
    part = min(1.0, line.share / max(run.share(phase) or 0.0, 1e-9))
    return own[phase].low * part, own[phase].high * part


def _line(run: Run, finding: Finding) -> Line | None:
    """Return the line that the finding names, or else the costliest of its phase."""
    lines = [line for line in run.lines if line.phase == finding.phase]
    named = [line for line in lines if line.where == finding.where]
    return max(named or lines, key=lambda line: line.share, default=None)


MITIGATION = remedy(
    "rarer-work",
    __doc__,
    treats=(("host", "python"), ("outside", "logging"), ("outside", "other")),
    assess=assess,
)
