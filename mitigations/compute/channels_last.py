"""Store images channels last.

Does: converts the convolutional model and its input to `torch.channels_last`.
Helps: convolutions in mixed precision or TF32 on GPUs, and in float32 on CPUs with AVX-512.
Avoid: models with few convolutions, or with operators that convert back and forth; plain float32
    on GPUs.
Safety: rounding. The same sums, computed by other kernels.
Place: system. The same values in another order in memory.
Source: PyTorch channels-last tutorial (2020): +22 % for ResNet-50 with AMP, 8 % to 35 % with AMP
    for other networks on Volta, 26 % to 76 % in float32 on Ice Lake CPUs.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import products
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.kernel_gains import bounded, precision
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

WORTH = 0.2  # of the step in convolutions
KINDS = ("convolution", "normalisation")
FASTER = {
    "cpu": (1.0, 1.76),
    "cuda": (1.0, 1.35),
}  # 1.0: nothing is published for the rest of the machines
BY_HAND = """\
model = model.to(memory_format=torch.channels_last)  # once, after moving it to the device
images = images.to(memory_format=torch.channels_last)  # each batch of shape (N, C, H, W)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = _unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    shares = products.kind_shares(run, *KINDS)
    if shares is None:
        return Misfit(reason="the kinds of operators were not measured")
    convolutions = shares["convolution"]
    if convolutions < WORTH:
        return Misfit(reason=f"only {percent(convolutions)} of the step are convolutions")
    gain = precision(shares, dict.fromkeys(KINDS, FASTER[run.device]))
    return Fit(
        reason=f"of the step, {products.shown(shares)}",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand=BY_HAND,
    )


def _unsuited(run: Run) -> str | None:
    if run.device not in FASTER:
        return f"what the layout does on {run.device} is not known here"
    laid = [model.channels_last for model in run.models if model.channels_last is not None]
    if any(laid):
        return "the model's weights lie channels last already"
    if not laid and run.kind != "trace":
        return "how the model's weights lie in memory was not recorded"
    plain = products.autocast(run) in (None, "off") and facts.dtypes(run) <= {"float32"}
    if run.device == "cuda" and plain and products.now(run, "convolution") == "fp32":
        return "float32 convolutions without TF32 gain nothing by it: first lower the precision"
    return None


MITIGATION = remedy(
    "channels-last",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
    how="patch",
    after=("bf16-autocast", "tf32"),
)
