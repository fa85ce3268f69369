"""Train with Adafactor, which keeps almost no state.

Does: replaces Adam or AdamW by `torch.optim.Adafactor`, which keeps a row and a column of averages
    for each matrix instead of two matrices.
Helps: large models whose optimizer fills the memory that a larger batch would need.
Avoid: trainings tuned for Adam: it converges more slowly now and then and wants its own learning
    rate.
Safety: changes_training. Another update rule; quality has to be checked.
Place: replace x optimization. Another optimizer.
Source: Shazeer and Stern (ICML 2018): translation as good as with Adam; Hugging Face's performance
    guide: 24 to about 12 GB of state for 3 billion weights, slower convergence in certain cases.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import TREATS, capacity, largest, not_binding, room_gain
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

NAMES = ("Adam", "AdamW")
FREED = (0.5, 1.0)  # of the state: with the first moment kept, as in the guide, or without
BY_HAND = """\
optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01)  # instead of {name}
# then a batch of up to {times:.1f} times the size; search for the learning rate anew"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = not_binding(run)
    if hindrance is not None:
        return hindrance
    held, optimizer = capacity(run), largest(run)
    if held is None or optimizer is None:
        return Misfit(reason="the model or its optimizer was not seen")
    if optimizer.name not in NAMES:
        return Misfit(reason=f"{optimizer.name} keeps less state than Adam does")
    least, most = (held.times(part * held.states) for part in FREED)
    gain = room_gain(run, finding, times=(least, most), what="almost no state")
    if isinstance(gain, Misfit):
        return gain
    return Fit(
        reason=f"the state of {optimizer.name} takes {size(held.states)} of memory that is "
        f"{percent(held.peak / held.total)} full",
        gain=gain,
        by_hand=BY_HAND.format(name=optimizer.name, times=most),
    )


MITIGATION = remedy(
    "adafactor",
    __doc__,
    treats=TREATS,
    assess=assess,
    how="patch",
    conflicts=("fused-optimizer", "eight-bit-optimizer", "offloading"),
)
