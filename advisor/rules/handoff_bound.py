"""Workers make batches fast enough, handing them over does not keep up.

Does: says how much of the step waits for batches that idle workers could long have made.
Why: more workers make this worse; smaller batches in bytes, or no workers at all, make it better.
Evidence: workers busy less than 60 % of the time while the training thread waits, or batches of 8
    MiB and more whose writing into shared memory outweighs making the samples.
Threshold: 5 % of the step (torch-tb-profiler's and XProf's for loading).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import explain
from speedprof.advisor.shares import finding, plenty, size, worth_naming
from speedprof.profiler.run import Run

NAME = "handoff-bound"


def check(run: Run) -> Finding | None:
    loading, loader = explain(run), run.training_loader()
    cost = worth_naming(run, "data_loading", loading.handoff if loading else None)
    if loading is None or loader is None or cost is None:
        return None
    bytes_each = f" of {size(loader.batch_bytes)}" if loader.batch_bytes else ""
    evidence = (
        f"{plenty(loader.num_workers, 'worker')} busy {100 * min(loading.busy or 0, 1):.0f} % of "
        "the time "
        f"hand over batches{bytes_each} each; the training thread still waits {cost.text} of each "
        "step"
    )
    return finding(cost, NAME, "worker_handoff", evidence=evidence, where=loading.where)
