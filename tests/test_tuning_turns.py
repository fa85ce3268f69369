"""Plans are compared by trials in turn, so that the machine's moods favour none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.budget import Budget
from speedprof.mitigations.tuning.decision import decided
from speedprof.mitigations.tuning.trial import Length, Plan, Trial, Trials
from speedprof.mitigations.tuning.turns import Compared, Turns, UnsteadyError
from speedprof.profiler.interpreter import Target
from speedprof.profiler.measured_ceilings import Series
from speedprof.profiler.record_facts import AppliedFact

NEW: Plan = (Remedy(name="tf32", parameters={}),)
LENGTH = Length()
STEPS = 60
CUT = "it was ended at its limit"


class Recorded(Trials):
    """Trials that were made before, given again in the order in which they are asked for."""

    def __init__(self, step_ms: Sequence[float | str]) -> None:
        super().__init__(
            target=Target(command=("python",), name="train"),
            folder=Path(),
            length=LENGTH,
            tell=lambda _: None,
        )
        self.left = list(step_ms)
        self.asked: list[str] = []

    def run(
        self,
        plan: Plan,
        what: str,
        *,
        seed: int = 0,
        windows: bool = False,
        limit_s: float | None = None,
    ) -> Trial:
        told = self.left.pop(0)
        self.asked.append("new" if plan == NEW else "old")
        trial = Trial(
            plan=plan,
            seed=seed,
            folder=Path(what),
            wall_s=limit_s if told == CUT and limit_s is not None else 5.0,
            series=series(told, len(self.made)) if isinstance(told, float) else None,
            windows=windows,
            problem=told if isinstance(told, str) else None,
        )
        self.made.append(trial)
        return trial


def series(step_ms: float, seed: int) -> Series:
    walls = step_ms * np.random.default_rng(seed).normal(1.0, 0.02, STEPS)
    nothing, ones = np.zeros(STEPS), np.ones(STEPS)
    return Series(wall_ms=walls, count=ones, samples=ones, batches=ones, handout_ms=nothing)


def against(*step_ms: float | str, budget_s: float = 600.0) -> tuple[Compared, str]:
    """Compare a new plan by trials of these lengths; the first is of the old one."""
    trials = Recorded(step_ms)
    turns = Turns(trials, Budget(whole_s=budget_s, most_s=60.0))
    turns.adopt((), (turns.trial((), "as it is"),))
    compared = turns.against(NEW, "tf32", decided, remedy="tf32")
    return compared, " ".join(trials.asked)


def test_what_is_kept_was_measured_between_two_trials_without_it() -> None:
    compared, asked = against(20.0, 10.0, 20.1)
    assert compared.verdict is True
    assert asked == "old new old"


def test_a_machine_that_got_quieter_meanwhile_is_no_gain() -> None:
    compared, asked = against(20.0, 10.0, 10.0, 10.0, 10.0, 10.0)
    assert compared.verdict is not True
    assert asked == "old new old new new old"


def test_a_slower_remedy_takes_one_trial() -> None:
    compared, asked = against(20.0, 25.0)
    assert compared.verdict is False
    assert asked == "old new"


def test_a_small_gain_takes_turns() -> None:
    compared, asked = against(20.0, 17.0, 17.1, 20.1)
    assert compared.verdict is True
    assert asked == "old new new old"


def test_an_old_trial_is_not_compared_with() -> None:
    trials = Recorded([20.0, 25.0, 25.0, 25.0, 25.0, 20.0, 25.0])
    turns = Turns(trials, Budget(whole_s=600.0, most_s=60.0))
    turns.adopt((), (turns.trial((), "as it is"),))
    for _ in range(5):
        turns.against(NEW, "tf32", decided)
    assert trials.asked == ["old", "new", "new", "new", "new", "old", "new"]


def test_a_failure_under_the_remedy_is_a_result_and_one_without_it_ends_the_tuning() -> None:
    compared, _ = against(20.0, "it ran out of memory")
    assert compared.problem == "it ran out of memory"
    with pytest.raises(UnsteadyError, match="no such file"):
        against(20.0, 10.0, "no such file")


def test_time_that_is_up_leaves_it_undecided() -> None:
    compared, asked = against(20.0, 17.0, budget_s=5.5)
    assert compared.out_of_time
    assert compared.verdict is None
    assert asked == "old"


def test_a_trial_that_the_end_of_the_budget_cuts_off_is_told() -> None:
    compared, asked = against(20.0, CUT, budget_s=30.0)
    assert compared.out_of_time
    assert compared.cut == "its trial was cut off after 22 s"  # a quarter is kept back
    assert asked == "old new"
    hung, _ = against(20.0, CUT)
    assert hung.problem == CUT  # long before the budget's end


def test_one_trial_is_enough_of_a_remedy_without_effect() -> None:
    trials = Recorded([20.0, 10.0])
    idle = AppliedFact(name="tf32", notes=["there is no GPU"])
    ran = trials.run

    def run(plan: Plan, what: str, **how: object) -> Trial:
        trial = replace(ran(plan, what, **how), applied=[idle] if plan else [])  # type: ignore[arg-type]
        trials.made[-1] = trial
        return trial

    trials.run = run  # type: ignore[method-assign,assignment]
    turns = Turns(trials, Budget(whole_s=600.0, most_s=60.0))
    turns.adopt((), (turns.trial((), "as it is"),))
    compared = turns.against(NEW, "tf32", decided, remedy="tf32")
    assert compared.problem == "it had no effect (there is no GPU)"
