"""Train with most weights at zero.

Does: prunes single weights before or during the training (lottery tickets, RigL, SNIP).
Helps: the size of the trained model; time only with hardware for its pattern (2:4).
Avoid: expecting time: GPUs multiply zeros as fast as anything else.
Safety: changes_training. A smaller function; check the accuracy.
Place: remove x function. Weights go.
Source: Dao et al. (2204.00595): most methods of sparse training need fewer operations and more
    time.
Against: unstructured sparsity slows training down by the clock (Monarch paper, 2204.00595).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import anything, fewer_steps
from speedprof.profiler.run import Run

HOPE = "fewer weights are fewer operations, which dense kernels do nevertheless"
BY_HAND = """\
torch.nn.utils.prune.global_unstructured(
    [(layer, "weight") for layer in linear_layers], torch.nn.utils.prune.L1Unstructured, amount=0.5
)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, anything, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("sparse-weights", __doc__, treats=(("compute", "arithmetic"),), assess=assess)
