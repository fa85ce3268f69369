"""Loading waits for storage.

Does: says how much of the step is spent waiting for bytes, not for the CPU.
Why: a sample that is waited for needs more readers, a cache or a nearer disk; faster code would
    not help.
Evidence: wall minus CPU minus queueing time of `__getitem__` and `collate` where they ran; for a
    hand-written generator, the source lines that wait. Bytes that came from the disk, against
    what storage gave `speedprof roofs`; free memory.
Threshold: 5 % of the step (torch-tb-profiler's and XProf's for loading).
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import Loading, data_lines, explain, production_ms, waiting_ms
from speedprof.advisor.shares import Part, at, finding, number, plenty, size, worth_naming
from speedprof.profiler.run import Run

NAME = "storage-bound"


def check(run: Run) -> Finding | None:
    loading = explain(run)
    cost = worth_naming(run, "data_loading", loading.storage if loading else None)
    if loading is None or cost is None:
        return None
    evidence = _evidence(run, loading, cost)
    return finding(cost, NAME, "storage", evidence=evidence, where=loading.where)


def _evidence(run: Run, loading: Loading, cost: Part) -> str:
    loader = run.training_loader()
    wait = waiting_ms(run, loader) if loader else None
    if loader is None or wait is None or data_lines_are_the_source(run):
        return f"waiting for input{at(loading.where)} takes {cost.text} of each step"
    makers = plenty(loader.num_workers, "worker") if loader.num_workers else "the training thread"
    read = f", {size(loader.read_bytes)} read" if loader.read_bytes else ""
    around = circumstances.joined(circumstances.reading(run, loader), circumstances.no_room(run))
    return (
        f"a batch made by {makers} waits {number(wait)} of its "
        f"{number(production_ms(loader) or wait)} ms for storage{read}; that costs {cost.text} of "
        f"each step{around}"
    )


def data_lines_are_the_source(run: Run) -> bool:
    """Tell whether the split came from source lines, because no DataLoader made the batches."""
    return run.input_kind in ("generator", "function") and bool(data_lines(run))
