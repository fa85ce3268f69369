"""Make batches in the training process.

Does: builds the DataLoader with `num_workers=0`, so that no batch crosses between processes.
Helps: batches that are cheap to make but large, or needed every few milliseconds.
Avoid: samples that wait for storage or cost more CPU than the hand-over takes.
Safety: reseeded. Samples and order stay; random transforms draw from the process's own generator.
Place: system. It changes where batches are made, not what is trained.
Source: PyTorch documentation of torch.utils.data (single-process loading suits small data in
    memory); no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import production_ms
from speedprof.advisor.shares import number, step_ms
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.ceilings import COMPETITION
from speedprof.profiler.run import Run

# Collating in a worker allocates shared memory page by page; in the process it reuses memory.
# Between as long as in the worker and half of it.
IN_PROCESS_FASTER = 0.5


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    loader, mean = run.training_loader(), step_ms(run)
    if loader is None or loader.num_workers == 0:
        return Misfit(reason="batches are made in the training process already")
    production = production_ms(loader)
    if production is None or mean is None or run.phases is None:
        return Misfit(reason="what a batch costs to make was not measured")
    making = production * (run.batches_per_step or 1.0)
    rest = mean - run.phases["data_loading"].ms
    freed = rest / (1.0 + COMPETITION)  # no worker takes cores and memory from it any more
    slow, fast = rest + making, freed + IN_PROCESS_FASTER * making
    if slow >= mean:
        return Misfit(
            reason=f"making a step's batches takes {number(making)} ms, more than waiting for them"
        )
    return Fit(
        reason=(
            f"a step's batches take {number(making)} ms to make, and the training thread waits "
            f"{number(mean - rest)} ms for them{facts.users_word(loader, 'num_workers')}"
        ),
        gain=Gain(
            low=mean / slow,
            high=mean / fast,
            model=f"{number(mean)} -> {number(freed)} to {number(rest)} ms of other work, which "
            f"the workers had slowed down, + {number(fast - freed)} to {number(making)} ms of "
            "making batches in turn",
        ),
        parameters={"num_workers": 0},
        by_hand=facts.loader_call(loader, num_workers=0),
    )


MITIGATION = remedy(
    "in-process-loading",
    __doc__,
    treats=(("data_loading", "worker_handoff"),),
    assess=assess,
    how="patch",
    conflicts=("loader-workers", "persistent-workers", "deeper-prefetch", "out-of-order-batches"),
)
