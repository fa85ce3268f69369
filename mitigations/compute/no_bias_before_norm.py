"""Leave out the bias of convolutions right before a batch norm.

Does: builds those convolutions with `bias=False`; the norm subtracts any constant right after.
Helps: convolutional networks whose blocks keep a bias that has no effect: adding it, and summing
    its gradient over a whole batch, are passes over memory for nothing.
Avoid: weights that were trained with the bias, unless the norm's running mean takes it over.
Safety: rounding. The same functions can be learned; there are fewer parameters to initialise.
Place: system (nearest action: remove x function). The bias never had an effect.
Source: PyTorch performance tuning guide, which lists it; no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import ceiling, removing
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

# Passes over a tensor of activations: a batch norm makes three forward (statistics, read, write)
# and five backward (two sums over two inputs, then the gradient); a bias one for its gradient's
# sum, and two more forward where it is a kernel of its own.
NORM_PASSES = 8.0
BIAS_PASSES = (1.0, 3.0)
WORTH = 1.01  # of a gain: below it is not worth the line


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    known = [model for model in run.models if model.biased_before_norm is not None]
    if not known:
        return Misfit(reason="whether convolutions have a needless bias was not recorded")
    biased = sum(model.biased_before_norm or 0 for model in known)
    if not biased:
        return Misfit(reason="no convolution before a batch norm has a bias")
    norms = sum(_batch_norms(model.modules or {}) for model in known)
    share = facts.kinds_share(run, "normalisation")
    if share is None or not norms:
        return Misfit(reason="the time of normalisation, or the layers, were not measured")
    part = share * min(1.0, biased / norms)
    least, most = (part * passes / NORM_PASSES for passes in BIAS_PASSES)
    what = f"adding the bias and its gradient, {BIAS_PASSES[0]:g} to {BIAS_PASSES[1]:g} passes "
    what += f"over memory to the {NORM_PASSES:g} of a batch norm"
    gain = removing(least, most, what=what)
    if gain.high < WORTH:
        return Misfit(reason=f"the bias costs at most {percent(most)} of the step")
    return Fit(
        reason=f"{biased} convolutions before a batch norm have a bias; batch norms take "
        f"{percent(share)} of the step",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand="torch.nn.Conv2d(..., bias=False)  # where a batch norm of its output follows",
    )


def _batch_norms(modules: dict[str, int]) -> int:
    return sum(count for name, count in modules.items() if "BatchNorm" in name)


MITIGATION = remedy(
    "no-bias-before-norm",
    __doc__,
    treats=(("compute", "memory_bandwidth"), ("compute", "arithmetic")),
    assess=assess,
    how="patch",
)
