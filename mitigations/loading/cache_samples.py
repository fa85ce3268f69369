"""Keep samples in memory after their first use.

Does: keeps each sample as it is read and decoded, and behind the first of its transforms that are
    the same each time; the rest, random transforms above all, runs on a copy each time. What is
    kept lies in memory that the training and its forked workers share: each sample is made once,
    by whoever comes first, and found by all of them in every later epoch, whether workers are kept
    or not. `budget_mb` is how much that may be, by default a quarter of the free memory (64 GiB
    at most, shared out among the ranks of a machine); if all transforms leave no room for the data
    set, fewer of them are kept, and what does not fit is made as before.
Helps: data sets that fit into memory and are read for more than one epoch.
Avoid: data sets larger than memory; samples that are made in less time than a copy takes; files
    that change while they are trained on; workers that are not forked, which find nothing.
Safety: exact. Only what draws no random number is kept, and the generators stand where they
    would. The first three samples of each process are made twice and compared to the last bit,
    later one of 128; what differs, or changes its attributes, is kept no longer.
Place: system. The same samples, kept instead of made again.
Source: PRESTO (SIGMOD 2022): 3x to 13x loading throughput from keeping the right steps of the
    pipeline, functionally identical; Plumber (MLSys 2022): more than 50 % end to end from
    automatic caching; CoorDL (VLDB 2021): up to 2x on one server. Loading alone gained that.
"""

from __future__ import annotations

import math

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import production_ms
from speedprof.advisor.shares import percent, size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

MEMORY_SHARE = 0.5  # of the free memory that a cache may take
SLACK = 4.0  # times the finished samples: a decoded image is larger than a crop of it
LEAST_MB = 64
MB = 1 << 20
WORTH = 0.2  # of making a sample: below it a cache is not worth its memory
LEAST = 0.98  # of the cacheable part, from the second epoch on: looking up costs next to nothing
RANDOM = (
    "Random", "ColorJitter", "AutoAugment", "RandAugment", "TrivialAugment", "AugMix", "Elastic",
    "GaussianBlur", "GaussianNoise", "MixUp", "CutMix", "Dropout",
)  # fmt: skip
BY_HAND = """\
class Kept(torch.utils.data.Dataset):  # by hand, each worker keeps samples of its own
    def __init__(self, dataset):
        self.dataset, self.kept = dataset, {{}}

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        if index not in self.kept:
            self.kept[index] = self.dataset[index]  # everything that is not random
        return self.kept[index]  # then apply the random transforms to it

# {where}: wrap the data set without its random transforms{random}
DataLoader(Kept(dataset), ...{persistent})"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    each, free, part = sample_bytes(loader), facts.available_bytes(run), cacheable(loader)
    unfit = _unfit(run, loader)
    if unfit is not None:
        return Misfit(reason=unfit)
    if each is None or free is None or part is None:
        return Misfit(reason="a sample's size or cost, or the free memory, was not measured")
    need = each * (loader.length or 0) * (1 if _shared(run, loader) else loader.num_workers)
    if need > MEMORY_SHARE * free:
        return Misfit(reason=f"about {size(need)} would be kept, and {size(free)} are free")
    if part < WORTH:
        return Misfit(reason=f"only {percent(part)} of making a sample is the same each time")
    # what is kept lies before the random transforms, and is larger where these crop
    about = "at least" if random_steps(loader) else "about"
    return Fit(
        reason=(
            f"{loader.length or 0:,} samples need {about} {size(need)} of {size(free)} free, and "
            f"{percent(part)} of making one is the same each time"
        ),
        gain=cheaper(run, finding, LEAST * part, part, what="making samples"),
        parameters={"budget_mb": _budget_mb(need, free)},
        by_hand=_by_hand(loader),
    )


def _budget_mb(need: float, free: float) -> int:
    """Return a budget with room for what lies before crops, and is larger than what they leave."""
    return math.ceil(min(max(SLACK * need, LEAST_MB * MB), MEMORY_SHARE * free) / MB)


def _shared(run: Run, loader: Loader) -> bool:
    """Tell whether workers find what others keep: where they are forked, as before Python 3.14."""
    if loader.num_workers < 2 or loader.start_method is not None:
        return loader.num_workers < 2 or loader.start_method == "fork"
    major, minor = (run.environment.python or "3.0").split(".")[:2]
    return (int(major), int(minor)) < (3, 14)


def _unfit(run: Run, loader: Loader) -> str | None:
    if loader.iterable or not loader.length:
        return f"{loader.dataset} has no indexed samples to keep"
    if any(one.name == "cache-samples" and one.effects for one in run.applied):
        return "samples are kept already: what is left is what has to be done anew"
    if _read_once(run, loader):
        return "the training read each sample once: there is nothing to read again"
    return None


def _read_once(run: Run, loader: Loader) -> bool:
    """Tell whether the run ended by itself after one pass over the data set."""
    ended = run.finished and run.exit_status == 0 and not run.stopped_by_us
    whole = loader.batches * (loader.batch_size or 1) >= LEAST * (loader.length or 0)
    return ended and loader.iterations == 1 and whole


def _by_hand(loader: Loader) -> str:
    random = ", ".join(random_steps(loader))
    return BY_HAND.format(
        where=loader.where or "where the DataLoader is made",
        random=f" ({random})" if random else "",
        persistent=", persistent_workers=True" if loader.num_workers else "",
    )


def sample_bytes(loader: Loader) -> float | None:
    """Return the bytes of one finished sample, None where batches were not sized."""
    if not loader.batch_bytes:
        return None
    return loader.batch_bytes / (loader.batch_size or 1)


def random_steps(loader: Loader) -> list[str]:
    """Return the names of the transforms that draw random numbers."""
    return [step.name for step in loader.transforms if step.name.startswith(RANDOM)]


def cacheable(loader: Loader) -> float | None:
    """Return the part of making a sample that is surely the same each time, 0..1.

    With a random transform in the chain only reading and decoding are: what follows it is random.
    """
    wall = production_ms(loader)
    if not wall:
        return None
    chain = sum(step.ms_per_sample for step in loader.transforms) * (loader.batch_size or 1)
    after = chain if random_steps(loader) else 0.0
    collate = loader.collate_ms or 0.0
    return min(max(1.0 - (after + collate) / wall, 0.0), 1.0)


MITIGATION = remedy(
    "cache-samples",
    __doc__,
    treats=(("data_loading", "storage"), ("data_loading", "cpu_preparation")),
    assess=worth_rewriting(assess),
    conflicts=("raw-pixels",),
)
