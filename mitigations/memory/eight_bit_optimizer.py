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
from speedprof.advisor.shares import size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import TREATS
from speedprof.mitigations.memory.lighter_state import lighter
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

FREED = 0.75  # of the state: 8 of 32 bits stay
BY_HAND = """\
import bitsandbytes  # pip install bitsandbytes
optimizer = bitsandbytes.optim.{name}8bit(model.parameters(), ...)  # instead of {name}
# then a batch of up to {times:.1f} times the size; adapt the learning rate"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    found = lighter(
        run,
        finding,
        freed=(FREED, FREED),
        what="a state of 8 bits",
        others="of {name} no 8-bit version is known here",
    )
    if isinstance(found, Misfit):
        return found
    return Fit(
        reason=f"{found.reason}; 8 bits free {size(FREED * found.state_bytes)}",
        gain=found.gain,
        by_hand=BY_HAND.format(name=found.name, times=found.times),
    )


MITIGATION = remedy(
    "eight-bit-optimizer",
    __doc__,
    treats=TREATS,
    assess=assess,
    how="patch",
    conflicts=("fused-optimizer", "adafactor", "offloading"),
)
