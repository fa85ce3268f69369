"""Loading is busy preparing samples on the CPU.

Does: says how much of the step goes into decoding, transforming and collating.
Why: preparation scales with cores, cheaper operators and caching; a faster disk or GPU would not
    help.
Evidence: CPU time of `__getitem__` and `collate` where they ran, and the costliest transforms; for
    a hand-written generator, the source lines that compute; the load of all cores.
Threshold: 5 % of the step (torch-tb-profiler's and XProf's for loading).
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import Loading, explain, preparation_cpu_ms
from speedprof.advisor.rules.storage_bound import data_lines_are_the_source
from speedprof.advisor.shares import Part, at, finding, number, plenty, worth_naming
from speedprof.profiler.run import Loader, Run

NAME = "preparation-bound"


def check(run: Run) -> Finding | None:
    loading = explain(run)
    cost = worth_naming(run, "data_loading", loading.preparation if loading else None)
    if loading is None or cost is None:
        return None
    evidence = _evidence(run, loading, cost)
    return finding(cost, NAME, "cpu_preparation", evidence=evidence, where=loading.where)


def _evidence(run: Run, loading: Loading, cost: Part) -> str:
    loader = run.training_loader()
    cpu = preparation_cpu_ms(loader) if loader else None
    if loader is None or cpu is None or data_lines_are_the_source(run):
        return f"preparing batches{at(loading.where)} takes {cost.text} of each step"
    makers = (
        f"{plenty(loader.num_workers, 'worker')}, busy {100 * min(loading.busy or 0, 1):.0f} % of "
        "the time"
        if loader.num_workers
        else "the training thread itself"
    )
    return (
        f"a batch costs {number(cpu)} ms of CPU{_costliest(loader)} and is made by {makers}; "
        f"waiting for it takes {cost.text} of each step"
        + circumstances.joined(circumstances.saturated(run))
    )


def _costliest(loader: Loader) -> str:
    """Name the transform that takes most, where the chain was timed."""
    if not loader.transforms or not loader.batch_size:
        return ""
    top = max(loader.transforms, key=lambda step: step.ms_per_sample)
    return f" (of it {number(top.ms_per_sample * loader.batch_size)} ms in {top.name})"
