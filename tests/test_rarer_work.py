"""Rarer work on the rank that all others wait for."""

from __future__ import annotations

import pytest
import runs

from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise
from speedprof.mitigations.gains import COMPETITION
from speedprof.mitigations.mitigation import Gain
from speedprof.profiler.run import Communication, Rank, Run

FASTER = 1 + COMPETITION  # what is left, where both computed on the same cores
SLOW, WAITING = {"host": 0.96}, {"communication": 0.96}


def rank(number: int, **shares: float) -> Rank:
    return Rank(
        rank=number, node="node0", pid=number, device="cpu", steps=200, step_ms=None,
        phases=runs.phases(spread=0.0, **shares),
    )  # fmt: skip


def late(exchange: Communication) -> Run:
    """Return two ranks, one of which does 96 ms of Python while the other waits for it."""
    return runs.run(
        {"host": 0.48, "communication": 0.48},
        spread=0.0,
        host=runs.host(python_ms=48.0),
        lines=[runs.line("host", "python", 0.48)],
        communication=exchange,
        world_size=2,
        ranks=[rank(0, **WAITING), rank(1, **SLOW)],
    )


def gain_of(run: Run) -> Gain:
    advice = {one.mitigation.name: one.fit.gain for one in advise(run, judge(run))}
    gain = advice["rarer-work"]
    assert gain is not None
    return gain


WAITS = {"transfer_ms": 1.0, "waiting_ms": 47.0, "total_ms": 48.0, "exposed_ms": 48.0}


def test_what_keeps_the_late_rank_keeps_them_all() -> None:
    exchange = runs.communication(
        **WAITS, late_rank=1, late_rank_share=1.0, late_rank_phase="host"
    )
    assert gain_of(late(exchange)).high == pytest.approx(FASTER / (1 - 0.96 * 0.98))


def test_work_of_no_late_rank_counts_as_it_is() -> None:
    gain = gain_of(late(runs.communication(**WAITS)))
    assert gain.high == pytest.approx(FASTER / (1 - 0.48 * 0.98))
