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
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import TREATS
from speedprof.mitigations.memory.lighter_state import lighter
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

FREED = (0.5, 1.0)  # of the state: with the first moment kept, as in the guide, or without
BY_HAND = """\
optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01)  # instead of {name}
# then a batch of up to {times:.1f} times the size; search for the learning rate anew"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    found = lighter(
        run,
        finding,
        freed=FREED,
        what="almost no state",
        others="{name} keeps less state than Adam does",
    )
    if isinstance(found, Misfit):
        return found
    return Fit(
        reason=found.reason,
        gain=found.gain,
        by_hand=BY_HAND.format(name=found.name, times=found.times),
    )


MITIGATION = remedy(
    "adafactor",
    __doc__,
    treats=TREATS,
    assess=assess,
    how="patch",
    conflicts=("fused-optimizer", "eight-bit-optimizer", "offloading"),
)
