"""Normalise in the type of autocast instead of float32.

Does: lets LayerNorm and GroupNorm read and write bf16 or fp16 under autocast, which runs them in
    float32 otherwise.
Helps: models under autocast that spend a visible part of the step in normalisation and in casts
    around it.
Avoid: trainings that are on the edge of diverging: spikes of the loss were seen, rarely.
Safety: rounding. Statistics stay float32 inside the kernel, inputs and outputs are rounded.
Place: system (nearest action: restrict x function). The program's meaning stays.
Source: MosaicML Composer's card of Low Precision LayerNorm (2022): about as fast as a fused
    LayerNorm, rare spikes of the loss; no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import products
from speedprof.mitigations.gains import ceiling, speeding_up
from speedprof.mitigations.kernel_gains import HALF_THE_BYTES, bounded
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

LAYERS = ("LayerNorm", "GroupNorm")
WORTH = 0.05  # of the step in normalisation
SLOWEST = 1.2  # kernels of short rows wait for their launch rather than for memory: assumed
BY_HAND = """\
class LowPrecision{layer}(torch.nn.{layer}):
    def forward(self, x):
        low = torch.get_autocast_dtype(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            return torch.nn.functional.{function}
# after making the model:
for module in model.modules():
    if type(module) is torch.nn.{layer}:
        module.__class__ = LowPrecision{layer}"""
FUNCTIONS = {
    "LayerNorm": "layer_norm(\n                x.to(low), self.normalized_shape, "
    "self.weight.to(low), self.bias.to(low), self.eps\n            )",
    "GroupNorm": "group_norm(\n                x.to(low), self.num_groups, "
    "self.weight.to(low), self.bias.to(low), self.eps\n            )",
}


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    cast = products.autocast(run)
    known = [model.modules for model in run.models if model.modules is not None]
    if cast is None or not known:
        return Misfit(reason="whether autocast is on, or the layers, were not recorded")
    if cast == "off":
        return Misfit(reason="without autocast a model normalises in its own type already")
    counts = {layer: sum(modules.get(layer, 0) for modules in known) for layer in LAYERS}
    layer = max(LAYERS, key=lambda name: counts[name])
    if not counts[layer]:
        return Misfit(reason="the model has no LayerNorm and no GroupNorm")
    share = facts.kinds_share(run, "normalisation")
    if share is None:
        return Misfit(reason="the kinds of operators were not measured")
    if share < WORTH:
        return Misfit(reason=f"only {percent(share)} of the step are normalisation")
    gain = speeding_up(share, SLOWEST, HALF_THE_BYTES, what="normalisation, at half the bytes")
    return Fit(
        reason=f"{counts[layer]} layers of {layer} take {percent(share)} of the step, in float32 "
        f"under autocast to {cast}",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand=BY_HAND.format(layer=layer, function=FUNCTIONS[layer]),
    )


MITIGATION = remedy(
    "low-precision-norm",
    __doc__,
    treats=(("compute", "memory_bandwidth"), ("compute", "arithmetic")),
    assess=assess,
    how="patch",
    after=("bf16-autocast",),
)
