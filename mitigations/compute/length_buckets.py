"""Put samples of about the same length into one batch.

Does: draws batches from buckets of similar length and pads each to its own longest sample.
Helps: texts or sounds of very different lengths, of whose padded batches a part is padding.
Avoid: batches that are hardly padded; a fixed length that the model or a compiled graph needs;
    very small data sets (buckets of one batch are no draw).
Safety: changes_training. The same samples in other company: batches are no longer a plain random
    draw, and a mean over tokens weighs samples otherwise.
Place: reorder x data. Which samples come together is a part of the training.
Source: PyTorch performance tuning guide, for balanced ranks, without a figure; the packing paper
    (Krell et al., 2021) counts up to 50 % padding in BERT's phase 2 and 89 % in GLUE's CoLA.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute.padding import padded_share, padding
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

LEAST = 0.5  # of the padding that goes: a bucket's samples differ, too
BY_HAND = """\
class Buckets(torch.utils.data.Sampler):  # of batches
    def __init__(self, lengths, batch_size):
        self.lengths, self.batch_size = torch.as_tensor(lengths), batch_size

    def __iter__(self):
        pools = torch.randperm(len(self.lengths)).split(50 * self.batch_size)
        sorted_pools = [pool[self.lengths[pool].argsort()] for pool in pools]
        batches = [part.tolist() for pool in sorted_pools for part in pool.split(self.batch_size)]
        for at in torch.randperm(len(batches)).tolist():
            yield batches[at]

# {where}: and a collate_fn that pads each batch to its longest sample only
DataLoader(dataset, batch_sampler=Buckets(lengths, {batch}), collate_fn=pad)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader, padded = run.training_loader(), padding(run)
    if isinstance(padded, Misfit):
        return padded
    if loader is None or loader.iterable or not loader.batch_size:
        return Misfit(reason="no DataLoader draws samples by index")
    if loader.batch_size == 1:
        return Misfit(reason="a batch is one sample")
    part = padded_share(run, padded)
    fixed = run.batch is not None and run.batch.distinct == 1 and run.batch.looked_at > 1
    shape = ", all of them to one length" if fixed else ""
    return Fit(
        reason=f"{percent(padded)} of what batches hold is padding{shape}, and computing takes "
        f"{percent(finding.share)} of the step",
        gain=removing(
            finding.low * part, finding.high * part, what="computing padding", at_least=LEAST
        ),
        by_hand=BY_HAND.format(
            where=loader.where or "where the DataLoader is made", batch=loader.batch_size
        ),
    )


MITIGATION = remedy(
    "length-buckets",
    __doc__,
    treats=(("compute", "arithmetic"), ("compute", "memory_bandwidth")),
    assess=assess,
    conflicts=("sequence-packing",),
)
