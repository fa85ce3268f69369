"""Keep the optimizer's state in 8 bits.

Does: replaces Adam or AdamW by its 8-bit version of bitsandbytes: 2 bytes for each weight, not 8.
Helps: large models whose optimizer fills the memory that a larger batch would need.
Avoid: small models, whose state is small beside their activations; embeddings, whose state the
    library keeps in 32 bits for stability.
Safety: changes_training. The state is quantised by blocks; quality has to be checked.
Place: restrict x optimization. The same update from a coarser state.
Source: Dettmers et al. (ICLR 2022): the quality of 32 bits on language models, translation and
    images, by changing two lines; Hugging Face's performance guide: 24 to 6 GB of state for 3
    billion weights.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import TREATS, capacity, largest, not_binding, room_gain
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

FREED = 0.75  # of the state: 8 of 32 bits stay
NAMES = ("Adam", "AdamW")
BY_HAND = """\
import bitsandbytes  # pip install bitsandbytes
optimizer = bitsandbytes.optim.{name}8bit(model.parameters(), ...)  # instead of {name}
# then a batch of up to {times:.1f} times the size; adapt the learning rate"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = not_binding(run)
    if hindrance is not None:
        return hindrance
    held, optimizer = capacity(run), largest(run)
    if held is None or optimizer is None:
        return Misfit(reason="the model or its optimizer was not seen")
    if optimizer.name not in NAMES:
        return Misfit(reason=f"of {optimizer.name} no 8-bit version is known here")
    times = held.times(FREED * held.states)
    gain = room_gain(run, finding, times=(times, times), what="a state of 8 bits")
    if isinstance(gain, Misfit):
        return gain
    return Fit(
        reason=f"the state of {optimizer.name} takes {size(held.states)} of memory that is "
        f"{percent(held.peak / held.total)} full; 8 bits free {size(FREED * held.states)}",
        gain=gain,
        by_hand=BY_HAND.format(name=optimizer.name, times=times),
    )


MITIGATION = remedy(
    "eight-bit-optimizer",
    __doc__,
    treats=TREATS,
    assess=assess,
    how="patch",
    conflicts=("fused-optimizer", "adafactor", "offloading"),
)
