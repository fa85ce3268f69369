"""Tokenise once, before training.

Does: writes the token ids of the whole corpus into one memory-mapped file and cuts samples out of
    it.
Helps: text that is tokenised again for every sample in every epoch.
Avoid: tokenisation that is itself random (subword regularisation); a corpus that is seen once.
Safety: exact. The same ids; what is random (masking, cropping) stays in the data set.
Place: system. The same samples, made once.
Source: no published figure was found; measured for this card, one core: cutting 512 ids out of a
    memory map and making a tensor of them takes about 3 us (torch 2.15).
"""

from __future__ import annotations

from math import prod

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.advisor.shares import number, percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Batch, Loader, Run

IDS = ("int16", "int32", "int64", "uint16")
LONGEST = 8  # ids in a row at least, so that it is a text and no label
READ_US = 10.0  # of a sample: index, slice, tensor, collate; three times what was measured
READ_US_PER_ID = 0.002
SLOW = 5.0  # times as dear as reading ids: then something is made that could be kept
LEAST = 0.6  # of the difference that goes: collating and padding stay
BY_HAND = """\
# once, before training: all ids in one file, and where each text begins
begins = [0]
with open("ids.bin", "wb") as file:
    for text in texts:
        ids = numpy.asarray(tokenizer(text)["input_ids"], dtype=numpy.int32)
        ids.tofile(file)
        begins.append(begins[-1] + len(ids))
numpy.save("begins.npy", begins)

# {where}: the data set reads, instead of tokenising
self.ids = numpy.memmap("ids.bin", dtype=numpy.int32, mode="r")
ids = torch.from_numpy(self.ids[self.begins[index] : self.begins[index + 1]].astype("int64"))"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader, batch = run.training_loader(), run.batch
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    if batch is None:
        return Misfit(reason="what batches are made of was not recorded")
    cpu = preparation_cpu_ms(loader)
    if not cpu or not loader.batch_size:
        return Misfit(reason="the CPU time of a batch was not measured")
    ids = token_ids(batch)
    if not ids:
        return Misfit(reason="batches are not made of token ids")
    reading = (READ_US * loader.batch_size + READ_US_PER_ID * ids) / 1e3
    if cpu < SLOW * reading:
        return Misfit(
            reason=f"a batch costs {number(cpu)} ms of CPU, reading {ids:,} finished ids about "
            f"{number(reading)}"
        )
    most = 1.0 - reading / cpu
    return Fit(
        reason=f"a batch of {ids:,} ids costs {number(cpu)} ms of CPU, "
        f"{number(1e3 * cpu / ids)} us each{_seen(run)}; reading finished ids takes about "
        f"{number(reading)} ms",
        gain=cheaper(run, finding, LEAST * most, most, what="preparing batches"),
        by_hand=BY_HAND.format(where=_where(loader)),
    )


def token_ids(batch: Batch) -> int:
    """Return how many ids the largest tensor of a batch of nothing but integers has, else 0."""
    if not batch.dtypes or any(dtype not in (*IDS, "bool", "uint8") for dtype in batch.dtypes):
        return 0
    rows = [
        shape
        for shape, dtype in zip(batch.shapes, batch.dtypes, strict=False)
        if dtype in IDS and len(shape) == 2 and shape[1] >= LONGEST
    ]
    return max((prod(shape) for shape in rows), default=0)


def _seen(run: Run) -> str:
    """Say where tokenising was seen, in the training thread."""
    lines = [one for one in run.lines if one.phase == "data_loading" and _tokenising(one.function)]
    share = sum(one.share for one in lines)
    return f" ({percent(share)} of the step in {lines[0].function})" if lines else ""


def _tokenising(name: str) -> bool:
    return "tokeni" in name.lower() or "encode" in name.lower()


def _where(loader: Loader) -> str:
    return loader.where or "where the data set is made"


MITIGATION = remedy(
    "tokenise-offline",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
)
