"""Fine-tune a few added or chosen weights instead of all: LoRA, BitFit.

Does: freezes the pretrained weights and trains low-rank additions to its linear layers (LoRA), or
    the biases alone (BitFit): neither gradients nor optimizer state of the rest are kept.
Helps: fine-tuning of large pretrained models whose state fills the memory.
Avoid: training from scratch; tasks far from what the model was trained on; for speed alone, which
    it does not always bring.
Safety: changes_training. Fewer weights can move; quality has to be checked.
Place: restrict x optimization. The same model, updated in a small subspace.
Source: LoRA (ICLR 2022), GPT-3 of 175 billion weights: two thirds less memory, 25 % faster than
    full fine-tuning; LoRA Is Slower Than You Think (2025): no consistent speed-up on smaller ones.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import fraction, percent, size, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import TREATS, capacity, not_binding, room_gain
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Model, Run

LINEAR = ("Linear", "Conv1D")  # Conv1D: how GPT-2 of transformers calls its linear layers
WHOLE = 0.5  # of the weights: from here the training is not one of adapters
TRAINED = 0.01  # of the weights in usual adapters
WEIGHT_GRADIENTS = 0.5  # of backward's products; the other half goes on to the inputs
BY_HAND = """\
from peft import LoraConfig, get_peft_model  # pip install peft; only for pretrained weights
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
# or the biases alone: for name, parameter in model.named_parameters():
#     parameter.requires_grad_(name.endswith("bias"))"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = not_binding(run)
    if hindrance is not None:
        return hindrance
    held, model = capacity(run), max(run.models, key=lambda one: one.bytes, default=None)
    if held is None or model is None or model.modules is None or model.trainable is None:
        return Misfit(reason="the layers, or how many of the weights are trained, were not seen")
    part = model.trainable / max(model.parameters, 1)
    if part < WHOLE:
        return Misfit(reason=f"only {percent(part)} of the weights are trained already")
    if not _linear(model):
        return Misfit(reason="the model has no linear layers to adapt")
    freed = (1.0 - TRAINED) * (held.gradients + held.states)
    backward = fraction(run.compute.backward_ms if run.compute else None, step_ms(run)) or 0.0
    times = held.times(freed)
    gain = room_gain(
        run, finding, times=(times, times), each=(0.0, -WEIGHT_GRADIENTS * backward),
        what="training 1 % of the weights",
    )  # fmt: skip
    if isinstance(gain, Misfit):
        return gain
    return Fit(
        reason=f"memory is {percent(held.peak / held.total)} full, {size(freed)} of it gradients "
        "and state that adapters would not need, if the weights are pretrained",
        gain=gain,
        by_hand=BY_HAND,
    )


def _linear(model: Model) -> int:
    return sum((model.modules or {}).get(name, 0) for name in LINEAR)


MITIGATION = remedy(
    "adapters",
    __doc__,
    treats=TREATS,
    assess=assess,
)
