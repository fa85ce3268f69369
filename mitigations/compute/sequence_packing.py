"""Pack several short sequences into one row.

Does: fills each row of a batch with several samples instead of padding, with a block-diagonal mask
    and positions that begin anew, so that they do not see each other.
Helps: attention over texts that are much shorter than the row they are padded to.
Avoid: recurrent models, which would carry state from one sample to the next; masks that the
    attention's kernel does not take (without a fast one the gain is lost); batches hardly padded.
Safety: rounding. The same loss for each sample if mask, positions and the mean over samples are
    kept; sums are taken in another order.
Place: system (nearest action: remove x data). Only padding goes.
Source: Krell et al. (2021), "Efficient sequence packing without cross-contamination": 2x in BERT's
    phase 2 (512 tokens, up to 50 % padding), on Graphcore IPUs; GLUE's CoLA is 89 % padding.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute.padding import padded_share, padding
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

LEAST = 0.6  # of the padding that goes: rows are filled to 90 % and more, masks cost something
RECURRENT = ("LSTM", "GRU", "RNN")
ATTENTION = ("Attention", "Transformer")
BY_HAND = """\
# {where}: in the collate_fn, rows of {length} with several samples each
ids, positions, sample = [], [], []
for number, one in enumerate(samples):  # one row: as many as fit
    ids += one; positions += range(len(one)); sample += [number] * len(one)
# in the model: attention only within a sample
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
def same(batch, head, query, key):
    return sample[batch, query] == sample[batch, key]
mask = create_block_mask(same, B=rows, H=1, Q_LEN={length}, KV_LEN={length})
out = torch.compile(flex_attention)(query, key, value, block_mask=mask)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    padded = padding(run)
    if isinstance(padded, Misfit):
        return padded
    known = [model.modules for model in run.models if model.modules is not None]
    if not known:
        return Misfit(reason="what the model is made of was not recorded")
    names = [name for modules in known for name in modules]
    recurrent = next((name for name in names if name in RECURRENT), None)
    if recurrent is not None:
        return Misfit(reason=f"{recurrent} would carry its state from one sample to the next")
    if not any(word in name for name in names for word in ATTENTION):
        return Misfit(reason="no attention was seen whose mask could keep samples apart")
    part = padded_share(run, padded)
    loader = run.training_loader()
    return Fit(
        reason=f"{percent(padded)} of what batches hold is padding, and computing takes "
        f"{percent(finding.share)} of the step",
        gain=removing(
            finding.low * part, finding.high * part, what="computing padding", at_least=LEAST
        ),
        by_hand=BY_HAND.format(
            where=(loader.where if loader else "") or "where the DataLoader is made",
            length=_length(run),
        ),
    )


def _length(run: Run) -> int:
    """Return the length of a padded row, 512 where no batch shows it."""
    shapes = run.batch.shapes if run.batch else []
    return max((shape[1] for shape in shapes if len(shape) == 2), default=512)


MITIGATION = remedy(
    "sequence-packing",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
    conflicts=("length-buckets",),
)
