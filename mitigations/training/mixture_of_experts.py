"""Give each token a part of a larger model.

Does: replaces feed-forward layers by several experts, of which each token uses one or two.
Helps: pretraining of language models on much data, with memory and links to spare.
Avoid: little device memory; slow links: tokens travel to their experts; fine-tuning.
Safety: changes_training. Another, larger model; inference needs its memory.
Place: replace x function. Another architecture.
Source: Shazeer et al. (2017), Switch Transformer (2101.03961); no figure that we could check.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps, sequences
from speedprof.profiler.run import Run

HOPE = "more parameters for the same computing may need fewer tokens"
BY_HAND = """\
choice = router(tokens).softmax(dim=-1).max(dim=-1)  # and a loss that balances the experts
for index, expert in enumerate(experts):
    mine = choice.indices == index
    out[mine] = choice.values[mine].unsqueeze(1) * expert(tokens[mine])"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, sequences, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("mixture-of-experts", __doc__, treats=BOTH, assess=assess)
