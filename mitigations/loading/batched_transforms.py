"""Transform whole batches instead of samples.

Does: takes a batch's samples from a tensor at once (`__getitems__`), and applies what is not
    random (conversion, normalisation) to the collated batch.
Helps: small samples, of which each pays Python and the dispatch of every operator.
Avoid: samples of 64 kB and more: a batch of them leaves the cache that one sample stays in;
    random transforms, which would draw once for the whole batch.
Safety: rounding. The same operations on a batch; sums may be taken in another order.
Place: system. The same samples, many at a time.
Source: Plumber (MLSys 2022): up to 47x over badly set up tf.data pipelines, of all its rewrites;
    measured for this card on one core with torch 2.15, 64 samples: conversion and normalisation
    11x faster at 3 x 32 x 32 pixels, 1.9x at 64 x 64, 0.9x at 112 x 112; items of a TensorDataset
    6x at 1 kB.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.advisor.shares import number, percent, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.cache_samples import sample_bytes
from speedprof.mitigations.loading.images import transforming
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

BATCHABLE = ("Normalize", "ConvertImageDtype", "ToDtype", "Grayscale", "LinearTransformation")
IN_MEMORY = ("TensorDataset",)
SMALL = ((16 << 10, 2.5, 8.0), (64 << 10, 1.2, 2.0))  # bytes up to which, slowest, fastest
WORTH = 0.15  # of making a batch
BY_TENSOR = """\
class Batched(torch.utils.data.TensorDataset):
    def __getitems__(self, indices):  # the loader calls it with all indices of a batch
        return [tensor[indices] for tensor in self.tensors]

def as_it_is(batch):
    return batch

# {where}
DataLoader(Batched(...), ..., collate_fn=as_it_is)"""
BY_TRANSFORM = """\
# {where}: take {names} out of the transforms, and
normalise = v2.Compose([...])  # what was taken out

def collate(samples):
    images, labels = torch.utils.data.default_collate(samples)
    return normalise(images), labels

DataLoader(..., collate_fn=collate)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    each, cpu, part = sample_bytes(loader), preparation_cpu_ms(loader), _shared(loader)
    if each is None or not cpu or not loader.batch_size or part is None:
        return Misfit(reason="the size of a sample, or its CPU time by steps, was not measured")
    if loader.batch_size == 1:
        return Misfit(reason="a batch is one sample")
    faster = next(((slow, fast) for most, slow, fast in SMALL if each <= most), None)
    if faster is None:
        return Misfit(reason=f"a sample has {size(each)}: its own work outweighs the calls")
    if part < WORTH:
        return Misfit(
            reason=f"only {percent(part)} of making a batch are transforms that a batch can share"
        )
    slowest, fastest = faster
    return Fit(
        reason=f"a sample of {size(each)} costs {number(1e3 * cpu / loader.batch_size)} us of "
        f"CPU, {percent(part)} of it in calls that a batch can share",
        gain=cheaper(
            run,
            finding,
            part * (1.0 - 1.0 / slowest),
            part * (1.0 - 1.0 / fastest),
            what="preparing batches",
        ),
        by_hand=_by_hand(loader),
    )


def _shared(loader: Loader) -> float | None:
    """Return the part of a batch's CPU time in calls that a batch can share, None: not timed."""
    return 1.0 if loader.dataset in IN_MEMORY else transforming(loader, *BATCHABLE)


def _by_hand(loader: Loader) -> str:
    where = loader.where or "where the data set is made"
    if loader.dataset in IN_MEMORY:
        return BY_TENSOR.format(where=where)
    names = ", ".join(one.name for one in loader.transforms if one.name.startswith(BATCHABLE))
    return BY_TRANSFORM.format(where=where, names=names)


MITIGATION = remedy(
    "batched-transforms",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
)
