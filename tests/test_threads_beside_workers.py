"""Compute threads make room for the workers that are advised, on a CPU."""

from __future__ import annotations

import pytest
import runs

from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise
from speedprof.mitigations.mitigation import Fit
from speedprof.profiler.run import Environment, Loader, Run


def advised(run: Run) -> Fit:
    return next(
        one.fit for one in advise(run, judge(run)) if one.mitigation.name == "loader-workers"
    )


def computing(loader: Loader, threads: int | None = 2, cores: int = 2, **facts: object) -> Run:
    environment = Environment(python="3.11", threads=threads)
    machines = [runs.machine(cores, cpu_load=0.5, other_load=0.0)]
    given = {"loaders": [loader], "environment": environment, "machines": machines}
    return runs.run({"data_loading": 0.8}, **(given | facts))


def test_threads_leave_the_workers_their_cores() -> None:
    fit = advised(computing(runs.preparing(cpu_ms=80.0)))
    assert fit.parameters["num_workers"] == 2
    assert "torch.set_num_threads(1)" in fit.by_hand
    assert "with 1 instead of 2 compute threads" in fit.reason


@pytest.mark.parametrize(
    "run",
    [
        computing(runs.preparing(cpu_ms=80.0), threads=1),
        computing(runs.preparing(cpu_ms=80.0), threads=2, cores=16),
        computing(runs.preparing(cpu_ms=80.0), threads=None),
        computing(runs.fetching(wait_ms=80.0)),
        computing(runs.preparing(cpu_ms=80.0), device="cuda"),
    ],
    ids=["one thread", "many cores", "not recorded", "workers that wait", "on a GPU"],
)
def test_threads_stay_where_they_are_not_in_the_way(run: Run) -> None:
    assert "set_num_threads" not in advised(run).by_hand
