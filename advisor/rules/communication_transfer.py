"""Moving gradients between ranks is not hidden behind computing.

Does: says how much of the step the exchange itself takes, waiting for late ranks left out.
Why: fewer or smaller exchanges, or better overlap, shorten it; balancing ranks would not.
Evidence: of each matched collective the shortest time over the ranks, when nobody is waited for.
Threshold: 5 % of the step (TraceLens' for exposed communication; torch-tb-profiler's is 10 %).
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import finding, fraction, number, plenty, size, worth_naming
from speedprof.profiler.run import Communication, Run

NAME = "communication-transfer"


def waiting_fraction(communication: Communication | None) -> float | None:
    """Return how much of communication is waiting, None where ranks were not matched."""
    if communication is None or communication.waiting_ms is None:
        return None
    if communication.transfer_ms is None:
        return None
    return fraction(communication.waiting_ms, communication.waiting_ms + communication.transfer_ms)


def check(run: Run) -> Finding | None:
    communication, waiting = run.communication, waiting_fraction(run.communication)
    if communication is None or waiting is None:
        return None
    cost = worth_naming(run, "communication", 1.0 - waiting)
    if cost is None:
        return None
    amount = f" of {size(communication.bytes)}" if communication.bytes else ""
    calls = (
        f" in {plenty(round(communication.collectives, 1), 'collective')}"
        if communication.collectives
        else ""
    )
    evidence = (
        f"exchanging gradients{amount}{calls} takes {number(communication.transfer_ms or 0)} ms, "
        f"and {cost.text} of each step is not hidden behind computing"
        + circumstances.joined(circumstances.exchange_roof(run), circumstances.searching(run))
    )
    return finding(cost, NAME, "transfer", evidence=evidence)
