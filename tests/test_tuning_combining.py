"""What was faster alone, but not beyond noise, gets another look together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from test_tuning_turns import Recorded

from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.budget import Budget
from speedprof.mitigations.tuning.candidates import Candidate, named
from speedprof.mitigations.tuning.combining import Combination, combination
from speedprof.mitigations.tuning.decision import Speedup
from speedprof.mitigations.tuning.proof import Proof
from speedprof.mitigations.tuning.trial import Plan
from speedprof.mitigations.tuning.tuned import Order, Tried
from speedprof.mitigations.tuning.tuner import Tuner
from speedprof.mitigations.tuning.turns import Turns
from speedprof.profiler.interpreter import Target

LAYOUT = Remedy(name="channels-last", parameters={})
BF16 = Remedy(name="bf16-autocast", parameters={"dtype": "bfloat16"})
COMPILED = Remedy(name="compile-model", parameters={})
WORKERS = Remedy(name="loader-workers", parameters={"num_workers": 2})
IN_PROCESS = Remedy(name="in-process-loading", parameters={"num_workers": 0})
FAILED = Proof(passed=False, sentence="the losses differ from step 3 on")


def tried(remedy: Remedy, ratio: float | None, proof: Proof | None = None) -> Tried:
    found = Speedup(ratio=ratio, low=ratio * 0.9, high=ratio * 1.1) if ratio else None
    return Tried(
        remedy=remedy,
        predicted=None,
        measured=found,
        proof=proof,
        kept=False,
        why=f"not faster beyond noise: {found}",
        trials=("03-x",),
    )


def combined(parts: Sequence[Tried], plan: Plan = ()) -> Combination | None:
    known = [Candidate(remedy=one.remedy) for one in parts]
    return combination(parts, plan, {one.key: one for one in known})


def test_what_looked_faster_is_put_together_the_likeliest_first() -> None:
    found = combined([tried(LAYOUT, 1.05), tried(BF16, 1.08)])
    assert found is not None
    assert found.plan == (BF16, LAYOUT)
    assert found.words == f"{named(BF16)} and channels-last"


@pytest.mark.parametrize(
    "one",
    [
        tried(LAYOUT, 1.02),  # less than a remedy is worth
        tried(LAYOUT, None),  # failed, or never tried
        tried(LAYOUT, 1.2, FAILED),
        tried(COMPILED, 1.1),  # each trial of which costs many
    ],
)
def test_what_is_in_no_doubt_or_dear_is_not_tried_again(one: Tried) -> None:
    assert combined([one]) is None


def test_what_does_not_go_with_the_plan_or_is_in_it_is_left_out() -> None:
    assert combined([tried(IN_PROCESS, 1.1)], (WORKERS,)) is None
    assert combined([tried(WORKERS, 1.1)], (WORKERS,)) is None
    both = combined([tried(IN_PROCESS, 1.1), tried(WORKERS, 1.05), tried(LAYOUT, 1.04)])
    assert both is not None
    assert both.plan == (IN_PROCESS, LAYOUT)


def test_what_a_remedy_needs_beside_it_comes_with_it() -> None:
    threads = Remedy(name="fewer-threads", parameters={"threads": 1})
    needing = Candidate(remedy=WORKERS, beside=(threads,))
    found = combination([tried(WORKERS, 1.1)], (LAYOUT,), {needing.key: needing})
    assert found is not None
    assert found.plan == (LAYOUT, threads, WORKERS)


def tuner(step_ms: Sequence[float | str], folder: Path, *parts: Tried) -> tuple[Tuner, Recorded]:
    """Return a tuning with remedies in doubt, and the trials that it will be given."""
    target = Target(command=("python",), name="train")
    tuning = Tuner(Order(target=target, parent=folder, budget_s=600.0), lambda _: None)
    trials = Recorded(step_ms)
    tuning._turns = Turns(trials, Budget(whole_s=600.0, most_s=60.0))
    first = tuning._turns.trial((), "as it is")
    tuning._original = [first, first]
    tuning._turns.adopt((), (first,))
    tuning.tuned.tried = list(parts)
    known = [Candidate(remedy=one.remedy) for one in parts]
    tuning._done = {one.key: one for one in known}
    return tuning, trials


def test_together_they_are_kept_where_no_noise_explains_it(tmp_path: Path) -> None:
    parts = tried(LAYOUT, 1.05), tried(BF16, 1.08)
    tuning, trials = tuner([20.0, 17.6, 17.7, 20.1], tmp_path, *parts)
    proved = Proof(passed=True, sentence="losses differ by 0.1 %")
    tuning._proved = lambda plan, compared: proved  # type: ignore[method-assign]
    assert tuning._together()
    assert tuning.tuned.plan == (BF16, LAYOUT)
    assert len(trials.made) >= 4  # never after a single round
    first, second = tuning.tuned.tried
    assert first.kept
    assert first.why.startswith(f"together with {named(BF16)}: 1.14x")
    assert first.why.endswith(proved.sentence)
    assert first.measured == parts[0].measured  # its own
    assert second.why.startswith("together with channels-last: 1.14x")


def test_what_is_no_faster_together_says_both_and_is_not_tried_a_third_time(
    tmp_path: Path,
) -> None:
    parts = tried(LAYOUT, 1.05), tried(BF16, 1.08)
    tuning, trials = tuner([20.0, 21.0], tmp_path, *parts)
    assert not tuning._together()
    assert tuning.tuned.plan == ()
    why = tuning.tuned.tried[0].why
    assert why.startswith("not faster beyond noise: 1.05x [0.95, 1.16]; together with")
    assert not tuning._together()
    assert trials.left == []


def test_one_in_doubt_is_looked_at_again_by_itself(tmp_path: Path) -> None:
    tuning, _ = tuner([20.0, 19.0, 21.0, 20.1], tmp_path, tried(LAYOUT, 1.05))
    assert not tuning._together()
    one = tuning.tuned.tried[0]
    assert "tried again: " in one.why
    assert one.measured is not None
    assert one.measured.ratio < 1.03


def test_a_failure_together_is_a_result(tmp_path: Path) -> None:
    parts = tried(LAYOUT, 1.05), tried(BF16, 1.08)
    tuning, _ = tuner([20.0, "no room for the sample"], tmp_path, *parts)
    assert not tuning._together()
    assert tuning.tuned.tried[1].why.endswith("no room for the sample")
    assert tuning.tuned.plan == ()
