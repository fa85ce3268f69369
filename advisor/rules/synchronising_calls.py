"""The host waits for the device in `.item()` and its kin, and the device then for the host.

Does: says how much of the step is lost to calls that drain the device's queue, and where they are.
Why: after each of them the device idles until new work has been launched.
Evidence: the device is idle while the training thread is inside a synchronising call; calls
    counted by line.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.launch_bound import host_part
from speedprof.advisor.shares import at, finding, number, top_line
from speedprof.profiler.run import Run

NAME = "synchronising-calls"


def check(run: Run) -> Finding | None:
    cost = host_part(run, "synchronisation_ms")
    if cost is None:
        return None
    worst = max(run.sync_calls, key=lambda call: call.ms_per_step, default=None)
    line = top_line(run, "host", "waiting")
    where = worst.where if worst else line.where if line else None
    calls = (
        f"{worst.what}{at(worst.where)}, {number(worst.calls_per_step)} times a step, is the "
        "costliest; "
        if worst
        else f"the training thread waits{at(where)}; "
        if where
        else ""
    )
    waiting = "waiting" if run.device == "cpu" else "waiting for the device and refilling it"
    evidence = f"{calls}{waiting} takes {cost.text} of each step"
    return finding(cost, NAME, "synchronisation", evidence=evidence, where=where)
