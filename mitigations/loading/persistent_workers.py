"""Keep the workers from one epoch to the next.

Does: builds the DataLoader with `persistent_workers=True`.
Helps: short epochs, spawned workers, data sets that are slow to import or to open.
Avoid: loaders that are built again every epoch (build them once); data sets that the training
    changes between epochs: kept workers go on with their own copy.
Safety: reseeded. The samples stay; from the second epoch on their random order is another one, and
    workers go on with the random state that they have.
Place: system. It changes when processes start, not what is trained.
Source: PyTorch documentation of torch.utils.data; no isolated published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import epoch_start_ms
from speedprof.advisor.shares import number, plenty
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

REFILL = 0.5  # kept workers still begin each epoch with empty queues


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None or loader.num_workers == 0:
        return Misfit(reason="no worker processes are started")
    if loader.persistent_workers:
        return Misfit(reason="the workers are kept already")
    start = epoch_start_ms(loader)
    if start is None:
        return Misfit(reason="the start-up of the workers was not measured")
    return Fit(
        reason=(
            f"{plenty(loader.num_workers, 'worker')} started for each of "
            f"{plenty(loader.iterations, 'epoch')}, {number(start)} ms each time"
            f"{facts.users_word(loader, 'persistent_workers')}"
        ),
        gain=removing(finding.low, finding.high, what="starting workers", at_least=REFILL),
        parameters={"persistent_workers": True},
        by_hand=facts.loader_call(loader, persistent_workers=True),
    )


MITIGATION = remedy(
    "persistent-workers",
    __doc__,
    treats=(("data_loading", "startup"),),
    assess=assess,
    how="patch",
    conflicts=("in-process-loading",),
    after=("loader-workers",),
)
