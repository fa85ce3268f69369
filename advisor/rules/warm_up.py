"""A recorded trace is mostly warm-up.

Does: says how much of the recorded time is what its first step took longer than the others.
Why: loading kernels, trying out algorithms and filling the allocator happen once in a training;
    no remedy is worth its risk for them, and what comes after is not what was recorded.
Evidence: the length of each recorded step.
Threshold: a first step of 2.5 times the median of the others: evaluation and checkpoints make
    steps longer, too, but seldom the first one, and a slow batch seldom that much; and 5 % of all
    recorded time (see `shares.FINDING_SHARE`).
"""

from __future__ import annotations

from statistics import median

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import FINDING_SHARE, number, step_ms
from speedprof.profiler.run import Run

NAME = "warm-up"
LONGER = 2.5
FEWEST = 3  # steps


def check(run: Run) -> Finding | None:
    if run.kind != "trace" or run.series is None or run.phases is None or not step_ms(run):
        return None
    walls = run.series.wall_ms
    if len(walls) < FEWEST:
        return None
    usual = median(walls[1:])
    share = (walls[0] - usual) / sum(walls) if sum(walls) > 0 else 0.0
    if walls[0] < LONGER * usual or share < FINDING_SHARE:
        return None
    evidence = (
        f"the first of {len(walls)} recorded steps takes {number(walls[0])} ms, the others "
        f"{number(usual)} ms: record later ones (torch.profiler.schedule with wait and warmup)"
    )
    host = run.phases["host"].share
    phase = "host" if host >= share / 2 else max(run.phases, key=lambda name: _share(run, name))
    return Finding(
        rule=NAME, phase=phase, cause=None, share=share, low=share, high=share, evidence=evidence
    )


def words(run: Run) -> str:
    """Say it beside a verdict."""
    walls = run.series.wall_ms if run.series else []
    return (
        f"warming up, the first of {len(walls)} recorded steps takes {number(walls[0])} ms and "
        f"the others {number(median(walls[1:]))} ms"
    )


def _share(run: Run, phase: str) -> float:
    return run.phases[phase].share if run.phases else 0.0
