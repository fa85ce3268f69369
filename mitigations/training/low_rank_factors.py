"""Replace large layers by two thin ones.

Does: factorises linear layers and convolutions into pairs of lower rank.
Helps: very large layers (512 features and more) at a quarter of their rank.
Avoid: small layers, which memory bandwidth limits: two of them read and write more.
Safety: changes_training. A smaller function; check the accuracy.
Place: restrict x function. Weights of low rank.
Source: MosaicML Composer's card (Jaderberg et al., 2014).
Against: less than 5 % more throughput for more than 1 % of accuracy, even with 512 channels at the
    least (Composer: "did not improve efficiency").
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import anything, shorter_steps
from speedprof.profiler.run import Run

FASTER = (1.0, 1.05)
LESS = "products of lower rank"
BY_HAND = """\
rank = layer.out_features // 4
layer = torch.nn.Sequential(
    torch.nn.Linear(layer.in_features, rank, bias=False),
    torch.nn.Linear(rank, layer.out_features),
)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return shorter_steps(run, anything, faster=FASTER, less=LESS, by_hand=BY_HAND)


MITIGATION = remedy(
    "low-rank-factors", __doc__, treats=(("compute", "arithmetic"),), assess=assess
)
