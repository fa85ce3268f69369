"""Gradients are exchanged that nobody reads.

Does: says how much of the step goes into exchanges after backward passes that no update follows.
Why: accumulated gradients are needed once an update; DDP exchanges them after every backward pass
    unless `no_sync()` tells it not to.
Evidence: backward passes per update, the share of them that DDP made without an exchange, and the
    exposed exchange.
Threshold: 5 % of the step (see `shares.FINDING_SHARE`), as for the exchange itself; other tools
    do not look at it.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.communication_transfer import waiting_fraction
from speedprof.advisor.shares import finding, number, percent, worth_naming
from speedprof.profiler.run import Exchange, Run

NAME = "needless-exchange"
ACCUMULATING = 1.5  # backward passes per update: a loss or two more now and then is none


def check(run: Run) -> Finding | None:
    waiting, needless = waiting_fraction(run.communication), needless_fraction(run)
    if waiting is None or needless is None:
        return None
    cost = worth_naming(run, "communication", (1.0 - waiting) * needless)
    if cost is None:
        return None
    evidence = (
        f"an update follows {number(_passes(run) or 1.0)} backward passes, and "
        f"{percent(needless)} of the exchanges after them are not used: they take {cost.text} of "
        "each step"
    )
    return finding(cost, NAME, "transfer", evidence=evidence)


def needless_fraction(run: Run) -> float | None:
    """Return which part (0..1) of the exchanges no update follows, None where not recorded."""
    passes, exchange = _passes(run), _exchange(run)
    if passes is None or exchange is None or exchange.unsynchronised is None:
        return None
    made = passes * (1.0 - exchange.unsynchronised)  # exchanges per update
    return 1.0 - 1.0 / made if passes >= ACCUMULATING and made > 1.0 else 0.0


def _passes(run: Run) -> float | None:
    """Return the backward passes per update, of one optimizer: several take turns in a step."""
    if run.backwards_per_step is None or len(run.optimizers) > 1:
        return None
    return run.backwards_per_step / max(run.updates_per_step or 1.0, 1.0)


def _exchange(run: Run) -> Exchange | None:
    return next((model.exchange for model in run.models[::-1] if model.exchange), None)
