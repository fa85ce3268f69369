"""Replace dense weights by structured ones.

Does: replaces linear layers by products of block-diagonal matrices (Monarch) or butterflies.
Helps: transformers whose step is large matrix products.
Avoid: small layers; pretrained weights, which have to be projected.
Safety: changes_training. Another function; check the quality.
Place: restrict x function. Weights of a structure.
Source: Dao et al. (2204.00595), Monarch: ViT and GPT-2 twice as fast at the same quality; BERT
    23 % faster than NVIDIA's MLPerf 1.1 entry.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import anything, shorter_steps
from speedprof.profiler.run import Run

LEAST = 0.5  # of the step in products
FASTER = (1.1, 2.0)
LESS = "matrix products of block-diagonal factors"
BY_HAND = """\
# instead of Linear(n, n): two block-diagonal products with a permutation between them
hidden = torch.einsum("bki,kio->bko", inputs.unflatten(-1, (blocks, -1)), first)
hidden = torch.einsum("bki,kio->bko", hidden.transpose(1, 2), second).flatten(1)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    products = facts.kinds_share(run, "matmul")
    if products is None:
        return Misfit(reason="the kinds of operators were not measured")
    if products < LEAST:
        return Misfit(reason=f"only {percent(products)} of the step are matrix products")
    return shorter_steps(run, anything, faster=FASTER, less=LESS, by_hand=BY_HAND, share=products)


MITIGATION = remedy(
    "structured-matrices", __doc__, treats=(("compute", "arithmetic"),), assess=assess
)
