"""Recorded traces are judged by what they hold, and advised on by what that allows."""

from __future__ import annotations

import pytest
import runs
from rule_cases import recorded, warming

from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise, find, treats
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.ceilings import ceilings
from speedprof.profiler.loader_marks import flags
from speedprof.profiler.run import Compute, Environment, Host, Operator, Run

IN_PROCESS = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
BY_WORKERS = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"


def advised(run: Run) -> dict[str, Fit]:
    return {advice.mitigation.name: advice.fit for advice in advise(run, judge(run))}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([IN_PROCESS, "aten::add"], {"DataLoader": "num_workers=0"}),
        ([BY_WORKERS], {"DataLoader": "worker processes"}),
        ([BY_WORKERS, IN_PROCESS], {}),  # which of them fed the training is not known
        (["aten::add"], {}),
    ],
)
def test_the_annotations_name_tells_who_made_the_batches(
    names: list[str], found: dict[str, str]
) -> None:
    assert flags(names) == found


def test_the_verdict_says_who_made_the_batches() -> None:
    verdict = judge(recorded()).verdict
    assert verdict.finding is not None
    assert verdict.finding.rule == "recorded-loading"
    assert verdict.sentence.endswith(
        "the training thread makes its own batches, without worker processes"
    )


def test_workers_are_advised_up_to_the_ceiling() -> None:
    run = recorded()
    fit, gone = advised(run)["loader-workers"], ceilings(run)["data_loading"]
    assert fit.gain is not None
    assert (fit.gain.low, fit.gain.high) == (gone.speedup_low, gone.speedup_high)
    assert fit.parameters["num_workers"] == 2
    assert "num_workers=2" in fit.by_hand


def test_the_longer_a_batch_takes_the_more_workers_are_advised() -> None:
    assert advised(recorded(share=0.9))["loader-workers"].parameters["num_workers"] == 2
    made = advised(recorded(share=0.9, gpu_use=runs.gpu_use(loader_ms=90.0)))
    assert made["loader-workers"].parameters["num_workers"] == 16


def test_more_workers_may_gain_nothing_where_there_are_some() -> None:
    fit = advised(recorded("worker processes"))["loader-workers"]
    assert fit.gain is not None
    assert fit.gain.low == 1.0


def test_a_loader_that_nothing_tells_of_gets_no_workers() -> None:
    assert "loader-workers" not in advised(recorded(None))


def test_a_recordings_warm_up_is_the_verdict_and_gets_no_remedy() -> None:
    host = Host(launch_ms=60.0, python_ms=0.0, allocator_ms=10.0, synchronisation_ms=0.0)
    run = warming(4000.0, 100.0, 90.0, 110.0)
    run = runs.trace({"host": 0.7}, series=run.series, host=host)
    judgement = judge(run)
    assert judgement.verdict.finding is not None
    assert judgement.verdict.finding.rule == "warm-up"
    assert "the first of 4 recorded steps takes 4,000 ms and the others 100 ms" in (
        judgement.verdict.sentence
    )
    assert {found.symptom_of for found in judgement.findings[1:]} == {"warm-up"}
    assert advise(run, judgement) == ()


def test_pageable_copies_of_a_trace_are_to_be_pinned() -> None:
    run = runs.trace({"host_to_device": 0.3}, copies=runs.copies(pageable_ms=20.0))
    assert "pin_memory=True" in advised(run)["pin-memory"].by_hand


def test_half_precision_is_not_advised_where_the_types_are_unknown() -> None:
    run = runs.trace({"host": 0.05}, compute=runs.compute(kinds={"matmul": 90.0, "other": 5.0}))
    judgement = judge(run)
    remedy = find("bf16-autocast")
    named = [found for found in judgement.findings if treats(remedy, found)]
    assert named
    answer = remedy.assess(run, named[0])
    assert isinstance(answer, Misfit)
    assert "types" in answer.reason


@pytest.mark.parametrize(("kernel", "told"), [("triton_poi_fused_add_0", False), ("gemm", True)])
def test_compiling_is_advised_unless_the_trace_shows_compiled_kernels(
    kernel: str, told: bool
) -> None:
    operators = [Operator(name=kernel, kind="other", ms=9.0, calls=30.0)]
    run = runs.trace(
        {"host": 0.8},
        host=Host(launch_ms=80.0, python_ms=0.0, allocator_ms=0.0, synchronisation_ms=0.0),
        compute=Compute(operators=operators, operators_per_step=900.0),
        environment=Environment(),
    )
    assert ("compile-model" in advised(run)) is told


def test_one_recorded_step_does_not_tell_first_allocations_from_those_of_each_step() -> None:
    host = Host(launch_ms=0.0, python_ms=0.0, allocator_ms=60.0, synchronisation_ms=0.0)
    assert "expandable-segments" not in advised(runs.trace({"host": 0.6}, host=host, steps=1))
    assert "expandable-segments" in advised(runs.trace({"host": 0.6}, host=host, steps=6))


def test_communication_of_one_rank_asks_for_the_others() -> None:
    run = runs.trace({"communication": 0.6}, missing_ranks=[(1, 7)])
    assert judge(run).verdict.sentence.endswith("only with the traces of the other ranks")
