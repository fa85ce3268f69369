"""Read the data set from a nearer place.

Does: copies the data to a local disk or to memory (/dev/shm), or reads it once so that the page
    cache holds it.
Helps: network file systems, disks that seek, data that fits into memory.
Avoid: data that is read once only; a local disk that is slower than the network; data larger than
    the page cache, of which each epoch drops what the next one wants first.
Safety: exact. The same bytes from another place.
Place: system. It changes where bytes lie, not what is trained.
Source: CoorDL (VLDB 2021): up to 2x on one server from caching that knows how training reads;
    Plumber (MLSys 2022): more than 50 % end to end from automatic caching; FFCV's benchmark (JPEG
    of 512 pixels): 16,631 images/s from AWS network storage, 31,278 from memory.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import production_ms, waiting_ms
from speedprof.advisor.shares import number, size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.loading.production import worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

LEAST = (
    0.5  # of the waiting that goes in the worst case: the nearer place has a latency of its own
)
BY_HAND = """\
# once, before training: the data set has about {amount}
cp -r DATA /dev/shm/DATA   # in memory; or a local disk
find DATA -type f -print0 | xargs -0 -P 8 cat > /dev/null   # or only into the page cache
# {where}
dataset = {dataset}("/dev/shm/DATA", ...)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches, see where the waiting is")
    waiting = waiting_ms(run, loader)
    if waiting is None:
        return Misfit(reason="the wait for storage was not measured")
    amount = data_bytes(loader)
    return Fit(
        reason=(
            f"{number(waiting)} of the {number(production_ms(loader) or waiting)} ms of making a "
            "batch "
            f"are waiting for storage{_speed(loader, waiting)}"
        ),
        gain=removing(finding.low, finding.high, what="waiting for storage", at_least=LEAST),
        by_hand=BY_HAND.format(
            amount=size(amount) if amount else "an unknown number of bytes",
            where=loader.where or "where the data set is made",
            dataset=loader.dataset,
        )
        + (_too_large(run, amount) if amount else ""),
    )


def data_bytes(loader: Loader) -> float | None:
    """Return about how many bytes one epoch reads, None where reading was not measured."""
    if not loader.read_bytes or not loader.length or not loader.batch_size:
        return None
    return loader.read_bytes * loader.length / loader.batch_size


def _speed(loader: Loader, waiting: float) -> str:
    if not loader.read_bytes or waiting <= 0:
        return ""
    return f", {size(loader.read_bytes)} at {number(loader.read_bytes / waiting / 1e3)} MB/s"


def _too_large(run: Run, amount: float) -> str:
    free = facts.available_bytes(run)
    if free is None or amount <= 0.5 * free:
        return ""
    return f"\n# {size(free)} of memory were free: choose a local disk"


MITIGATION = remedy(
    "nearer-storage",
    __doc__,
    treats=(("data_loading", "storage"),),
    assess=worth_rewriting(assess),
    conflicts=("sharded-files",),
)
