"""The step when its batches cost less to make, with as many workers as now; what repays that."""

from __future__ import annotations

import functools
from collections.abc import Callable

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import workers_busy
from speedprof.advisor.shares import percent
from speedprof.mitigations.gains import ceiling, shares
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

NEVER_IDLE = 0.8  # of the time busy: then the step is as long as the workers take
WIDEST = 2.5  # high / low: a wider range says nothing, so the hopeful end is given up
# Below a tenth of the step (1.11x at best) an argument may be changed, but how samples are stored
# or made is not rewritten.
REWRITE = 0.10

Assess = Callable[[Run, Finding], Fit | Misfit]


def worth_rewriting(assess: Assess) -> Assess:
    """Let a remedy that rewrites how samples are stored or made apply only where that repays."""

    @functools.wraps(assess)
    def assess_rewrite(run: Run, finding: Finding) -> Fit | Misfit:
        if finding.share < REWRITE:
            return Misfit(
                reason=f"{percent(finding.share)} of the step do not repay storing or making "
                "samples in another way"
            )
        return assess(run, finding)

    return assess_rewrite


def cheaper(run: Run, finding: Finding, least: float, most: float, *, what: str) -> Gain:
    """Return the gain when `least` to `most` (0..1) of what the finding is about goes away.

    At least that part of the finding's share of the step goes (Amdahl). At most, where workers
    that are never idle make the batches, the whole step shrinks as making a batch does, until the
    wait is gone: hidden work shrinks with the work that shows.
    """
    low, high = ceiling(finding.low * least), ceiling(finding.high * most)
    model = (
        f"{shares(least, most)} of {what} gone, which costs {shares(finding.low, finding.high)} "
        "of the step"
    )
    loading, loader = run.share("data_loading"), run.training_loader()
    busy = workers_busy(run, loader) if loader is not None else None
    if loading and busy is not None and busy >= NEVER_IDLE:
        part = min(finding.share / loading, 1.0)  # of making a batch
        high = max(high, min(ceiling(finding.high), ceiling(part * most)))
        model += "; at best the workers, never idle, deliver that much faster"
    return Gain(low=low, high=min(high, WIDEST * low), model=model)
