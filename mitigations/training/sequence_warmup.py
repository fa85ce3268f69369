"""Start with short sequences and let them grow.

Does: cuts sequences short during the first 30 % of the training, from 8 tokens to the full length.
Helps: language models whose step is computing; trainings that are unstable at first.
Avoid: fine-tuning; data whose later parts matter from the start.
Safety: changes_training. Early steps see fewer tokens; check the loss at the end.
Place: reorder x data. Lengths come one after another.
Source: MosaicML Composer's card: GPT about 1.5 times faster to the same loss, over 30 % of the
    training; Li et al. (2108.06084): GPT-2 in 3.7 times less time and 2.2 times fewer tokens,
    together with the larger batches and learning rates that it allowed.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, sequences, shorter_steps
from speedprof.profiler.run import Run

PART = 0.3  # of the training, at half the length as a mean
FASTER = (1.05, 1.0 / (1.0 - PART / 2.0))  # of the steps alone; longer learning rates come on top
LESS = "15 % fewer tokens, as a mean over the training"
BY_HAND = """\
length = tokens.shape[1]
length = min(length, max(8, int(length * step / (0.3 * total_steps)) // 8 * 8))
tokens = tokens[:, :length]  # and the labels"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return shorter_steps(run, sequences, faster=FASTER, less=LESS, by_hand=BY_HAND)


MITIGATION = remedy("sequence-warmup", __doc__, treats=BOTH, assess=assess, how="patch")
