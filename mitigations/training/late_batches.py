"""Where a changed training may help against batches that come too late."""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.advisor.story import STALL_STANDS_OUT
from speedprof.mitigations.loading import loader_workers
from speedprof.mitigations.mitigation import Fit
from speedprof.profiler.run import Run

LATE = (("data_loading", "storage"), ("data_loading", "cpu_preparation"))


def unsuited(run: Run, finding: Finding) -> str | None:
    """Return why the training should not be changed for its loader, None where it may be.

    What makes batches in time and changes nothing comes first: workers, where cores are free.
    """
    waiting = run.share("data_loading")
    if waiting is None:
        return "the phases of the step were not measured"
    if waiting < STALL_STANDS_OUT:
        return f"waiting for data takes only {percent(waiting)} of the step"
    if run.training_loader() is None:
        return "no DataLoader makes the batches"
    workers = loader_workers.assess(run, finding)
    if isinstance(workers, Fit) and "num_workers" in workers.parameters:
        count = workers.parameters["num_workers"]
        return f"loader-workers comes first: {count} of them change nothing of the training"
    return None
