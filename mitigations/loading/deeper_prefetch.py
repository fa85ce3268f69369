"""Let workers make more batches ahead.

Does: builds the DataLoader with a larger `prefetch_factor`, so that more finished batches wait for
    their step.
Helps: batches whose cost varies, where workers are fast enough on average and one late batch
    empties the queue.
Avoid: workers that are too slow on average (a longer queue runs empty, too); hosts short of memory
    or of /dev/shm.
Safety: exact. The same batches in the same order.
Place: system. It changes how early batches are made, not what is trained.
Source: PyTorch documentation of torch.utils.data (2 batches per worker by default); no isolated
    published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import size
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.uneven import unevenness, without_lateness
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

DEEPER = 4  # times as deep
DEFAULT = 2  # batches per worker, torch's own
MEMORY_SHARE = 0.25  # of the free memory that batches under way may take
# Simulated queues of 2 to 8 workers that need 60 to 95 % of the step, batch costs from log-normal
# to one in a hundred 20 times as dear: a queue 4 times as deep took away 39 to 100 % of the wait.
LEAST = 0.4


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    seen = unevenness(run)
    if isinstance(seen, Misfit):
        return seen
    loader, free = seen.loader, facts.available_bytes(run)
    if free is None or not loader.batch_bytes:
        return Misfit(reason="the size of a batch, or the free memory, was not measured")
    now = loader.prefetch_factor or DEFAULT
    depth = min(DEEPER * now, _room(loader, free))
    if depth <= now:
        return Misfit(
            reason=f"{now * loader.num_workers} batches of {size(loader.batch_bytes)} are made "
            f"ahead already, and {size(free)} of memory are free"
        )
    least = LEAST * (depth - now) / ((DEEPER - 1) * now)
    return Fit(
        reason=f"{seen.text}; {now} per worker are made ahead"
        f"{facts.users_word(loader, 'prefetch_factor')}",
        gain=without_lateness(seen, least, what=f"{depth} batches ahead per worker"),
        parameters={"prefetch_factor": depth},
        by_hand=facts.loader_call(loader, prefetch_factor=depth),
    )


def _room(loader: Loader, free: int) -> int:
    """Return how many batches each worker may have under way."""
    return int(MEMORY_SHARE * free / (loader.num_workers * (loader.batch_bytes or 1)))


MITIGATION = remedy(
    "deeper-prefetch",
    __doc__,
    treats=(
        ("data_loading", "worker_handoff"),
        ("data_loading", "cpu_preparation"),
        ("data_loading", "storage"),
    ),
    assess=assess,
    how="patch",
    conflicts=("in-process-loading",),
    after=("loader-workers",),
)
