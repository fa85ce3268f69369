"""Which remedies tune tries, in which order, and how it spends its time."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs

from speedprof.mitigations.mitigation import Gain
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.budget import COMPILING_S, Budget, kept_back_s, likely_s
from speedprof.mitigations.tuning.candidates import (
    COSTS,
    Candidate,
    candidates,
    in_order,
    rivals,
)
from speedprof.mitigations.tuning.decision import WORTH
from speedprof.mitigations.tuning.trial import Length, Plan, Trial
from speedprof.mitigations.tuning.unadvised import values
from speedprof.profiler.run import Run

WORKERS = Remedy(name="loader-workers", parameters={"num_workers": 4, "persistent_workers": True})
BUCKETS = Remedy(name="ddp-buckets", parameters={"bucket_cap_mb": 25.0})


def other_values(run: Run, *plan: Remedy) -> list[tuple[str, object]]:
    found = [remedy for remedy, _ in values(run, plan)]
    main = {"loader-workers": "num_workers", "ddp-buckets": "bucket_cap_mb"}
    return [(one.name, one.parameters[main[one.name]]) for one in found]


def test_more_workers_are_tried_while_the_training_waits_and_fewer_where_they_fill_the_cores() -> (
    None
):
    waits, works = runs.run({"data_loading": 0.4}), runs.run({"data_loading": 0.01})
    assert other_values(waits, WORKERS) == [("loader-workers", 8), ("loader-workers", 3)]
    assert other_values(works, WORKERS) == [("loader-workers", 3)]
    wide = runs.run({"data_loading": 0.4}, machines=[runs.machine(cores=16)])
    assert other_values(wide, WORKERS) == [("loader-workers", 8)]
    most = Remedy(name="loader-workers", parameters={"num_workers": 16})
    assert other_values(wide, most) == [("loader-workers", 15)]


def test_what_is_hoped_of_another_value_is_all_that_is_left_of_its_phase() -> None:
    gain = next(gain for _, gain in values(runs.run({"data_loading": 0.4}), (WORKERS,)))
    assert gain is not None
    assert gain.low == 1.0
    assert gain.high == pytest.approx(1 / (1 - 0.42))


def test_buckets_are_tried_larger_and_smaller_while_the_exchange_shows() -> None:
    talks = runs.run({"communication": 0.3})
    assert other_values(talks, BUCKETS) == [("ddp-buckets", 100.0), ("ddp-buckets", 6.25)]
    assert other_values(runs.run(), BUCKETS) == []


def test_of_what_no_prediction_speaks_for_little_is_hoped_in_a_phase_that_matters() -> None:
    loader = runs.preparing(2, 90.0)
    waits = runs.run({"data_loading": 0.5}, loaders=[loader])
    found = [one for one in candidates(waits, ()) if one.remedy.name not in COSTS]
    assert "in-process-loading" in [one.remedy.name for one in found if one.predicted is None]
    hopes = [
        (one.predicted.low + one.predicted.high) / 2 if one.predicted else WORTH for one in found
    ]
    assert hopes == pytest.approx(sorted(hopes, reverse=True), abs=0.01)
    works = runs.run({"data_loading": 0.05}, loaders=[loader])
    assert "in-process-loading" not in [one.remedy.name for one in candidates(works, ())]


def test_a_remedy_is_tried_in_place_of_those_that_do_not_go_with_it() -> None:
    kept = Remedy(name="persistent-workers", parameters={"persistent_workers": True})
    plan = (kept, Remedy(name="tf32", parameters={}))
    assert rivals("in-process-loading", plan) == ("persistent-workers",)
    waits = runs.run({"data_loading": 0.5}, loaders=[runs.preparing(4, 90.0)])
    found = {one.remedy.name: one for one in candidates(waits, plan)}
    within = found["in-process-loading"].within(plan)
    assert [one.name for one in within] == ["tf32", "in-process-loading"]
    won = candidates(waits, (WORKERS,))  # over no workers at all
    assert "in-process-loading" not in [one.remedy.name for one in won]


def test_what_is_in_force_is_no_candidate() -> None:
    waits = runs.run({"data_loading": 0.5}, loaders=[runs.preparing(4, 90.0)])
    assert all(one.remedy != WORKERS for one in candidates(waits, (WORKERS,)))


# -- time

COMPILE: Plan = (Remedy(name="compile-model", parameters={}),)


def trial(
    plan: Plan, wall_s: float, *, windows: bool = False, problem: str | None = None
) -> Trial:
    return Trial(
        plan=plan, seed=0, folder=Path(), wall_s=wall_s, series=None, windows=windows,
        problem=problem,
    )  # fmt: skip


def test_a_trial_is_likely_to_take_as_long_as_the_same_took_before() -> None:
    made = [trial((), 12.0, windows=True), trial((), 7.0), trial((WORKERS,), 5.0)]
    assert likely_s((), made) == 7.0
    assert likely_s((WORKERS,), made) == 5.0
    assert likely_s((BUCKETS,), made) == 7.0  # as the longer of the last two
    assert likely_s(COMPILE, made) == 7.0 + COMPILING_S
    made.append(trial(COMPILE, 20.0))
    assert likely_s((*COMPILE, WORKERS), made) == 20.0  # torch finds most of it compiled
    assert likely_s((), [*made, trial((), 100.0, problem="it hung")]) == 7.0


def test_time_is_kept_back_for_two_pairs_with_the_whole_plan() -> None:
    made = [trial((), 7.0), trial((WORKERS,), 5.0)]
    assert kept_back_s((WORKERS,), made, 600.0) == 24.0
    assert kept_back_s((WORKERS,), made, 60.0) == 15.0  # a quarter of a short budget
    assert kept_back_s((), made, 600.0) == 0.0


def test_a_trial_may_take_four_times_as_long_as_is_likely_and_no_longer_than_any() -> None:
    budget = Budget(whole_s=600.0, most_s=300.0)
    assert budget.patience_s(20.0) == 80.0
    assert budget.patience_s(1.0) == 30.0
    assert budget.patience_s(1000.0) == 300.0


def test_trials_are_short_in_a_short_budget() -> None:
    usual = Length()
    assert usual.within(600.0) == usual
    short = usual.within(120.0)
    assert (short.least_s, short.most_s, short.steps) == (2.0, 10.0, usual.steps)


def test_what_is_quick_to_try_comes_before_what_promises_a_little_more() -> None:
    gains = {"compile-model": (5.4, 7.1), "fused-optimizer": (3.1, 5.8), "tf32": (1.0, 1.2)}
    found = [
        Candidate(
            remedy=Remedy(name=name, parameters={}),
            predicted=Gain(low=low, high=high, model="a model"),
        )
        for name, (low, high) in gains.items()
    ]
    names = [one.remedy.name for one in in_order(found)]
    assert names == ["fused-optimizer", "compile-model", "tf32"]


def test_what_no_model_speaks_for_comes_before_a_long_trial_that_promises_as_little() -> None:
    little = Gain(low=1.0, high=1.2, model="a model")
    compiling = Candidate(remedy=COMPILE[0], predicted=little)
    layout = Candidate(remedy=Remedy(name="channels-last", parameters={}))
    assert in_order([compiling, layout]) == [layout, compiling]
