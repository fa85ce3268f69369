"""Ranks wait for a late one.

Does: says how much of the step is waiting inside collectives, for which rank, and what keeps that
    rank.
Why: "communication-bound" is often one slow rank; a faster network would not help.
Evidence: time of each matched collective beyond the shortest over the ranks, charged to the rank
    that came last.
Threshold: 5 % of the step (msprof-analyze calls a rank slow from 5 % over the mean; TraceML warns
    from 10 %).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.communication_transfer import waiting_fraction
from speedprof.advisor.shares import finding, percent, worth_naming
from speedprof.profiler.run import Communication, Run

NAME = "straggler"
ONE_RANK = 0.5  # of the waiting: below it the ranks take turns at being late

DOING = {
    "data_loading": "waits for its data",
    "host_to_device": "copies to its device",
    "compute": "computes",
    "host": "is busy in Python and launching",
    "outside": "is busy between steps",
}
DOING_EXACTLY = {
    "compute.forward": "computes forward",
    "compute.backward": "computes backward",
    "compute.optimizer": "updates its parameters",
    "host.launch": "launches kernels",
    "host.python": "is busy in Python",
    "host.allocator": "waits for memory to be allocated",
    "host.synchronisation": "waits for its device",
    "outside.checkpoint": "writes a checkpoint",
    "outside.evaluation": "evaluates",
    "outside.logging": "logs",
}


def check(run: Run) -> Finding | None:
    communication, waiting = run.communication, waiting_fraction(run.communication)
    cost = worth_naming(run, "communication", waiting)
    if communication is None or cost is None:
        return None
    evidence = f"waiting for a late rank takes {cost.text} of each step; {who(communication)}"
    return finding(cost, NAME, "straggler", evidence=evidence)


def who(communication: Communication | None) -> str:
    """Say which rank is late, how often and why, as far as that is known."""
    if communication is None:
        return "no one rank is known to be late"
    late, share = communication.late_rank, communication.late_rank_share
    if late is None or (share is not None and share < ONE_RANK):
        return "no one rank causes most of it"
    part = f", for {percent(share)} of the waiting" if share is not None else ", most often"
    return f"rank {late} is the late one{part}{_why(communication)}"


def _why(communication: Communication) -> str:
    doing = DOING_EXACTLY.get(communication.late_rank_label or "")
    doing = doing or DOING.get(communication.late_rank_phase or "")
    if doing:
        return f", because it {doing} longer than the others"
    found = communication.matching.stragglers[:1] if communication.matching else []
    if any(late.unseen_ms > sum(late.doing_ms.values()) for late in found):
        return ", because it came late into the recorded steps already"
    return ""
