"""Batches wait for a free core.

Does: says how much of the step is lost because more threads want to run than there are cores.
Why: more workers would only queue longer; fewer threads, cheaper preparation or a freer machine
    help.
Evidence: the kernel's own count of time ready to run without running (`schedstat`) of loader
    workers.
Threshold: 5 % of the step, and a quarter of the time of making a batch: below it queueing is
    ordinary time slicing.
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import explain, production_ms
from speedprof.advisor.shares import finding, fraction, number, plenty, worth_naming
from speedprof.profiler.run import Machine, Run

NAME = "cpu-oversubscription"
QUEUED_SHARE = 0.25  # of making a batch


def check(run: Run) -> Finding | None:
    loading, loader = explain(run), run.training_loader()
    cost = worth_naming(run, "data_loading", loading.queueing if loading else None)
    if loading is None or loader is None or cost is None:
        return None
    queued = fraction(loader.queued_ms, production_ms(loader))
    if queued is None or queued < QUEUED_SHARE:
        return None
    machine = max(run.machines, key=lambda node: node.cpu_load or 0.0, default=None)
    evidence = (
        f"making a batch waits {number(loader.queued_ms or 0)} of "
        f"{number(production_ms(loader) or 0)} ms "
        f"for a core{_crowd(run, machine, loader.num_workers)}; that costs {cost.text} of each "
        "step"
    )
    return finding(cost, NAME, "cpu_preparation", evidence=evidence, where=loading.where)


def _crowd(run: Run, machine: Machine | None, workers: int) -> str:
    if machine is None:
        return ""
    threads = run.environment.threads
    own = " and ".join(
        plenty(count, noun)
        for count, noun in ((workers, "worker"), (threads, "compute thread"))
        if count
    )
    who = ", ".join(text for text in (own, circumstances.crowd(run)) if text)
    return f" ({who}, on {plenty(machine.cores, 'core')})" if who else ""
