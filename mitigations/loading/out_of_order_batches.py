"""Take whichever batch is finished first.

Does: builds the DataLoader with `in_order=False` (torch 2.6 and later), so that a finished batch
    never waits for a late one before it.
Helps: batches whose cost varies much, over several workers that are fast enough on average.
Avoid: runs that must be repeatable; data whose expensive samples are special (they come late in
    the epoch, so batches are no longer a fair draw).
Safety: changes_training. The same samples in an order that depends on timing, skewed towards
    cheap ones first.
Place: reorder x data. The order of batches is a part of the training.
Source: PyTorch documentation of torch.utils.data, which warns of skew; Lotus (IISWC 2024) saw
    batches that arrive out of order keep the main process waiting; neither gives a figure.
"""

from __future__ import annotations

import re

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.uneven import unevenness, without_lateness
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

SINCE = (2, 6)  # torch
# The simulated queues of deeper_prefetch.py: 12 to 77 % of the wait went with 2 workers, 28 to
# 100 % with 4, 54 to 100 % with 8; one late batch keeps one of them.
LEAST_PER_WORKER = 0.06
LEAST = 0.5


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    seen = unevenness(run)
    if isinstance(seen, Misfit):
        return seen
    hindrance = _hindrance(run, seen.loader)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    workers = seen.loader.num_workers
    least = min(LEAST, LEAST_PER_WORKER * workers)
    return Fit(
        reason=f"{seen.text}; one late batch keeps those of the other {workers - 1} back",
        gain=without_lateness(seen, least, what="batches taken as they come"),
        parameters={"in_order": False},
        by_hand=f"# {seen.loader.where or 'where it is made'}, in DataLoader(...):\n"
        "in_order=False,",
    )


def _hindrance(run: Run, loader: Loader) -> str | None:
    version = re.match(r"(\d+)\.(\d+)", run.environment.torch or "")
    if version is None:
        return "the version of torch was not recorded"
    if (int(version[1]), int(version[2])) < SINCE:
        return f"torch {run.environment.torch} delivers batches in order only; 2.6 is needed"
    if loader.num_workers == 1:
        return "one worker finishes its batches in order"
    return "the script chooses in_order itself" if "in_order" in loader.explicit else None


MITIGATION = remedy(
    "out-of-order-batches",
    __doc__,
    treats=(
        ("data_loading", "worker_handoff"),
        ("data_loading", "cpu_preparation"),
        ("data_loading", "storage"),
    ),
    assess=assess,
    how="patch",
    conflicts=("in-process-loading",),
    after=("loader-workers", "deeper-prefetch"),
)
