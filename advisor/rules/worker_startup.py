"""Workers are started anew for every epoch.

Does: says how much of the step goes into starting workers again and again.
Why: processes that are kept cost one start for the whole training.
Evidence: time from `iter()` to the first batch beyond the making of one batch, times the epochs
    after the first.
Threshold: 5 % of the step (torch-tb-profiler's and XProf's for loading).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import epoch_start_ms, explain
from speedprof.advisor.shares import finding, number, plenty, worth_naming
from speedprof.profiler.run import Run

NAME = "worker-startup"


def check(run: Run) -> Finding | None:
    loading, loader = explain(run), run.training_loader()
    cost = worth_naming(run, "data_loading", loading.startup if loading else None)
    if loading is None or loader is None or cost is None:
        return None
    evidence = (
        f"{plenty(loader.num_workers, 'worker')} started {plenty(loader.iterations, 'time')} take "
        f"{number(epoch_start_ms(loader) or 0)} ms until the first batch; spread over the steps "
        f"that is {cost.text}"
    )
    return finding(cost, NAME, "startup", evidence=evidence, where=loading.where)
