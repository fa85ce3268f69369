"""How much of a batch is padding, and of computing with it."""

from __future__ import annotations

from speedprof.advisor.shares import percent
from speedprof.mitigations.mitigation import Misfit
from speedprof.profiler.run import Run

WORTH = 0.15  # of the ids: below it other batches do not repay another collate function


def padding(run: Run) -> float | Misfit:
    """Return which part (0..1) of the batches' ids is padding, or why that is no matter."""
    if run.batch is None or run.batch.padding is None:
        return Misfit(reason="the padding of batches was not recorded, or they hold no ids")
    if run.batch.padding < WORTH:
        return Misfit(reason=f"only {percent(run.batch.padding)} of what batches hold is padding")
    return run.batch.padding


def padded_share(run: Run, padded: float) -> float:
    """Return the part of computing that goes into padding: all of it but the optimizer's.

    Work grows with the number of ids at least, and attention with its square; that is left out.
    """
    compute, phases = run.compute, run.phases
    if compute is None or phases is None or compute.optimizer_ms is None:
        return padded
    whole = phases["compute"].ms
    return padded * max(1.0 - compute.optimizer_ms / whole, 0.0) if whole > 0 else padded
