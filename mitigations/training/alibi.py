"""Train on short sequences with ALiBi.

Does: replaces position embeddings by a bias of the attention that grows with distance, trains on a
    quarter of the length and evaluates on all of it.
Helps: language models with long sequences, whose attention takes its share of the step.
Avoid: pretrained models with other positions; attention kernels that take no bias.
Safety: changes_training. Another model on shorter contexts; check the loss at full length.
Place: restrict x data. Shorter sequences (and a replaced function: the positions).
Source: MosaicML Composer's card, trained at 256 and evaluated at 1024 tokens: GPT-2 of 52M, 83M
    and 125M on 8 A100-40GB 1.16, 1.18 and 1.19 times faster, with 1.16 to 1.28 times less memory
    and 0.24 to 0.63 better perplexity.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, sequence_length, sequences, shorter_steps
from speedprof.profiler.run import Run

LONG = 512  # tokens: shorter sequences spend little on attention
LEAST = 0.05  # of the step in attention
FASTER = (1.5, 4.0)  # a quarter of the length is a quarter of the attention per token
BY_HAND = """\
# train on sequences of {short} tokens, four times as many; add to the scores of each head:
positions = torch.arange(length)
distance = positions.unsqueeze(1) - positions
bias = -slopes.view(-1, 1, 1) * distance.clamp(min=0)  # slopes: 2 ** (-8 * head / heads)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    length, attention = sequence_length(run), facts.kinds_share(run, "attention")
    if length is None:
        return Misfit(reason=sequences(run) or "the length of the sequences was not recorded")
    if length < LONG:
        return Misfit(reason=f"sequences of {length} tokens are short already")
    if attention is None:
        return Misfit(reason="the kinds of operators were not measured")
    if attention < LEAST:
        return Misfit(reason=f"only {percent(attention)} of the step are attention")
    short = length // 4
    return shorter_steps(
        run,
        sequences,
        faster=FASTER,
        less=f"attention over {short} instead of {length} tokens",
        by_hand=BY_HAND.format(short=short),
        share=attention,
    )


MITIGATION = remedy("alibi", __doc__, treats=BOTH, assess=assess)
