"""Start with a small model and let it grow.

Does: trains fewer or thinner layers first and initialises the full model from them (stacking,
    bert2BERT, LiGO, masked structural growth).
Helps: pretraining of large transformers from scratch; series of models of growing size.
Avoid: fine-tuning; stacking at a fixed budget, which gained nothing for BERT and T5 ("No Train No
    Gain", 2307.06440).
Safety: changes_training. Another path to the model; check the loss at the end.
Place: reorder x function. Parts of the model come one after another.
Source: bert2BERT (2110.07143): 45 % less cost for BERT, 47 % for GPT; LiGO (ICLR 2023): up to
    50 %; masked structural growth (ICLR 2024): up to 2.2 times.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps, sequences
from speedprof.profiler.run import Run

HOPE = "a small model makes the first part of the progress in shorter steps"
BY_HAND = """\
# halfway: each block of the small model initialises two of the large one
for index, block in enumerate(large.blocks):
    block.load_state_dict(small.blocks[index // 2].state_dict())"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, sequences, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("progressive-growth", __doc__, treats=BOTH, assess=assess)
