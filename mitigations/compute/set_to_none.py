"""Drop gradients between updates instead of filling them with zeros.

Does: calls `optimizer.zero_grad()` as it is since PyTorch 2.0, with `set_to_none=True`.
Helps: scripts that keep their gradients: each is filled with zeros, then read, added to and
    written again by backward, where one write would do.
Avoid: code that reads `.grad` of parameters that took no part in the step: it is absent then.
Safety: rounding. A parameter without a gradient is skipped by the update, one of zeros is not.
Place: system. The same gradients.
Source: PyTorch performance tuning guide: fewer memory operations; default since PyTorch 2.0; no
    isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import ceiling, removing
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Operator, Run

FILLS = ("zero_", "fill_", "fillfunctor", "zerofunctor")
# A fill is one pass over the gradients; adding to them is three (read both, write), where storing
# them is none at all.
WITH_ADDING = 4.0  # times the fill
BY_HAND = """\
optimizer.zero_grad()  # set_to_none=True is the default; leave set_to_none=False out
# and no loop over parameters that calls parameter.grad.zero_()"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    keeping = [one.keeps_gradients for one in run.optimizers if one.keeps_gradients is not None]
    if not keeping and not _old(run):
        return Misfit(reason="whether gradients are kept between updates was not recorded")
    if keeping and not any(keeping):
        return Misfit(reason="gradients are dropped between updates already")
    compute, share = run.compute, run.share("compute")
    if compute is None or share is None or not compute.operators:
        return Misfit(reason="the costliest operators were not measured")
    fills = [one for one in compute.operators if _is_fill(one)]
    if not fills:
        return Misfit(reason="filling with zeros is not among the costliest operators")
    spent = sum(one.ms for one in fills)
    of_step = share * spent / max(sum(compute.kinds.values()), spent)
    gain = removing(
        of_step,
        min(WITH_ADDING * of_step, share),
        what="filling with zeros, and adding to zeros, three times as many passes",
    )
    return Fit(
        reason=f"gradients are kept between updates, and {number(sum(one.calls for one in fills))}"
        f" fills take {percent(of_step)} of the step",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand=BY_HAND,
    )


def _is_fill(operator: Operator) -> bool:
    return any(word in operator.name.lower() for word in FILLS)


def _old(run: Run) -> bool:
    """Tell whether the run is of a PyTorch that keeps gradients unless told otherwise."""
    major = (run.environment.torch or "").partition(".")[0]
    return major.isdigit() and int(major) < 2


MITIGATION = remedy(
    "set-to-none",
    __doc__,
    treats=(("compute", "memory_bandwidth"), ("compute", "arithmetic"), ("host", "launch")),
    assess=assess,
    how="patch",
)
