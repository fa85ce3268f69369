"""One verdict and one story: what stands out, and what is only its consequence."""

from __future__ import annotations

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as some

from speedprof.advisor.finding import CAUSES
from speedprof.advisor.judgement import judge
from speedprof.profiler.run import PHASES, NotMeasured, Rank, Run

LOADING, TALKING = "data_loading", "communication"


def bottleneck(run: Run) -> tuple[str, str | None] | None:
    found = judge(run).verdict.finding
    return None if found is None else (found.phase, found.cause)


def rank(number: int, **shares: float) -> Rank:
    return Rank(
        rank=number, node="node0", pid=100 + number, device="cpu", steps=200, step_ms=None,
        phases=runs.phases(**shares),
    )  # fmt: skip


def late(phase: str, **facts: object) -> dict[str, object]:
    """Return facts of a run whose rank 1 is late because of `phase`."""
    waiting = {"transfer_ms": 5.0, "waiting_ms": 30.0, "late_rank": 1, "late_rank_share": 0.95}
    return {"communication": runs.communication(**waiting, late_rank_phase=phase), **facts}


def test_a_stall_of_a_fifth_of_the_step_is_the_verdict() -> None:
    assert bottleneck(runs.run({LOADING: 0.21}, loaders=[runs.preparing(0, 21.0)])) == (
        LOADING,
        "cpu_preparation",
    )


def test_stalls_that_are_each_small_are_a_balanced_step() -> None:
    run = runs.run({LOADING: 0.15, "host": 0.12, "outside": 0.10}, loaders=[runs.preparing()])
    verdict = judge(run).verdict
    assert verdict.finding is None
    assert verdict.sentence.startswith("Nothing stands out: computing takes 63 %")
    assert "data loading, 15 %" in verdict.sentence


def test_a_balanced_step_still_has_its_findings() -> None:
    run = runs.run({LOADING: 0.15, "host": 0.15, "outside": 0.10}, loaders=[runs.preparing(0, 15)])
    assert [found.rule for found in judge(run).findings] == ["preparation-bound"]


def test_computing_is_the_verdict_where_it_leaves_no_room_for_anything_else() -> None:
    run = runs.run({"host": 0.05}, compute=runs.compute("arithmetic"))
    assert bottleneck(run) == ("compute", "arithmetic")


def test_a_step_of_computing_whose_limit_is_unknown_is_named_without_a_cause() -> None:
    run = runs.run({"host": 0.05}, compute=runs.compute(None, kinds={"matmul": 60.0}))
    judgement = judge(run)
    assert bottleneck(run) == ("compute", None)
    assert "could not be told" in judgement.verdict.sentence
    assert judgement.findings[0] is judgement.verdict.finding


def test_a_stall_that_can_be_removed_comes_before_computing_that_cannot() -> None:
    run = runs.run({"outside": 0.25}, compute=runs.compute(), outside=runs.outside(other_ms=25.0))
    assert bottleneck(run) == ("outside", "other")


def test_the_larger_of_two_stalls_is_the_verdict() -> None:
    parts = {"outside": runs.outside(checkpoint_ms=22.0), "host": runs.host(python_ms=35.0)}
    assert bottleneck(runs.run({"outside": 0.22, "host": 0.35}, **parts)) == ("host", "python")


def test_a_large_stall_that_no_rule_explains_is_named_without_a_cause() -> None:
    run = runs.run({LOADING: 0.5}, loaders=[runs.loader(2)])
    assert bottleneck(run) == (LOADING, None)
    assert "could not be told" in judge(run).verdict.sentence


def test_a_cause_that_explains_little_of_a_phase_is_not_named_for_all_of_it() -> None:
    quarters = dict.fromkeys(
        ("launch_ms", "python_ms", "allocator_ms", "synchronisation_ms"), 10.0
    )
    assert bottleneck(runs.run({"host": 0.4}, host=runs.host(**quarters))) == ("host", None)


def test_a_share_whose_interval_reaches_below_the_threshold_says_so() -> None:
    run = runs.run({LOADING: 0.22}, spread=0.05, loaders=[runs.preparing(0, 22.0)])
    assert "95 % interval 17 % to 27 %" in judge(run).verdict.sentence


def test_a_share_whose_interval_is_clear_of_the_threshold_does_not() -> None:
    run = runs.run({LOADING: 0.6}, spread=0.05, loaders=[runs.preparing(0, 60.0)])
    assert "interval" not in judge(run).verdict.sentence


def test_a_balanced_step_whose_interval_reaches_over_a_limit_asks_for_more_steps() -> None:
    run = runs.run({LOADING: 0.18, "host": 0.17}, spread=0.04)
    assert "more steps" in judge(run).verdict.sentence


def test_a_run_without_steps_says_what_to_do() -> None:
    run = Run(
        folder="", name="", command=[], cwd="", started_at=0.0, wall_s=None, finished=True,
        exit_status=0,
    )  # fmt: skip
    sentence = judge(run).verdict.sentence
    assert sentence.startswith("No verdict: no training step could be measured")
    assert "speedprof.step()" in sentence


def test_a_run_without_steps_says_why_where_that_is_known() -> None:
    why = NotMeasured(what="steps", why="torch was not imported; is this the script that trains?")
    run = Run(
        folder="", name="", command=[], cwd="", started_at=0.0, wall_s=None, finished=True,
        exit_status=0, not_measured=[why],
    )  # fmt: skip
    assert judge(run).verdict.sentence == f"No verdict: {why.why}"


def test_steps_without_windows_say_why_nothing_is_known_of_their_time() -> None:
    run = runs.run(phases=None, not_measured=[NotMeasured(what="phases", why="--no-windows")])
    assert "200 steps of 100 ms were seen" in judge(run).verdict.sentence
    assert "--no-windows" in judge(run).verdict.sentence


def test_preparation_that_queues_for_cores_is_a_symptom_of_too_many_threads() -> None:
    crowded = runs.preparing(4, 360.0, queued_ms=200.0, getitem_cpu_ms=100.0, collate_cpu_ms=20.0)
    judgement = judge(runs.run({LOADING: 0.5}, loaders=[crowded]))
    assert judgement.verdict.finding is not None
    assert judgement.verdict.finding.rule == "cpu-oversubscription"
    assert judgement.verdict.finding.cause == "cpu_preparation"
    symptoms = {found.rule: found.symptom_of for found in judgement.findings}
    assert symptoms["preparation-bound"] == "cpu-oversubscription"


def test_one_late_rank_is_one_story_with_what_keeps_it() -> None:
    ranks = [rank(0, communication=0.70), rank(1, data_loading=0.70)]
    run = runs.run(
        {TALKING: 0.35, LOADING: 0.36},
        ranks=ranks, world_size=2, loaders=[runs.preparing(0, 70.0)], **late(LOADING),
    )  # fmt: skip
    judgement = judge(run)
    assert bottleneck(run) == (TALKING, "straggler")
    assert "rank 1 is the late one" in judgement.verdict.sentence
    assert "waits for its data" in judgement.verdict.sentence
    told = {found.rule: found.symptom_of for found in judgement.findings}
    assert told["preparation-bound"] == "straggler"


def test_a_late_rank_is_the_symptom_where_all_ranks_wait_for_data() -> None:
    ranks = [rank(0, data_loading=0.50, communication=0.25), rank(1, data_loading=0.70)]
    run = runs.run(
        {TALKING: 0.24, LOADING: 0.60},
        ranks=ranks, world_size=2, loaders=[runs.preparing(0, 60.0)], **late(LOADING),
    )  # fmt: skip
    told = {found.rule: found.symptom_of for found in judge(run).findings}
    assert bottleneck(run) == (LOADING, "cpu_preparation")
    assert told["straggler"] == "preparation-bound"


def test_slow_transfer_is_the_verdict_although_a_rank_is_a_little_late() -> None:
    facts = {"transfer_ms": 45.0, "waiting_ms": 10.0, "late_rank": 1, "late_rank_phase": "host"}
    run = runs.run(
        {TALKING: 0.55, "host": 0.10},
        communication=runs.communication(**facts), host=runs.host(python_ms=10.0),
    )  # fmt: skip
    assert bottleneck(run) == (TALKING, "transfer")


def test_roots_come_before_symptoms_and_the_verdict_comes_first() -> None:
    crowded = runs.preparing(4, 360.0, queued_ms=200.0, getitem_cpu_ms=100.0, collate_cpu_ms=20.0)
    judgement = judge(
        runs.run({LOADING: 0.5, "host": 0.1}, loaders=[crowded], host=runs.host(python_ms=10.0))
    )
    assert judgement.findings[0] is judgement.verdict.finding
    marks = [found.symptom_of is not None for found in judgement.findings]
    assert marks == sorted(marks)


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_a_step_of_95_percent_computing_gets_no_loading_verdict_on_any_machine(cores: int) -> None:
    run = runs.run(
        {LOADING: 0.05}, compute=runs.compute(), machines=[runs.machine(cores)],
        loaders=[runs.preparing(0, 5.0)],
    )  # fmt: skip
    assert bottleneck(run) == ("compute", "arithmetic")


@given(some.lists(some.floats(0.0, 1.0), min_size=6, max_size=6))
def test_any_six_shares_get_an_answer_that_reports_can_name(weights: list[float]) -> None:
    total = sum(weights) or 1.0
    shares = {name: weight / total for name, weight in zip(PHASES, weights, strict=True)}
    judgement = judge(runs.run(shares))
    found = judgement.verdict.finding
    assert judgement.verdict.sentence
    assert found is None or found.cause is None or found.cause in CAUSES[found.phase]


@pytest.mark.parametrize(("share", "named"), [(0.06, True), (0.04, False)])
def test_a_twentieth_of_the_step_is_worth_naming(share: float, named: bool) -> None:
    run = runs.run({LOADING: share}, loaders=[runs.preparing(0, 5.0)])
    assert any(found.phase == LOADING for found in judge(run).findings) is named


@pytest.mark.parametrize(("share", "dominates"), [(0.76, True), (0.74, False)])
def test_computing_dominates_from_three_quarters_of_the_step(
    share: float, dominates: bool
) -> None:
    half = (1.0 - share) / 2
    run = runs.run({"host": half, "outside": half}, compute=runs.compute())
    assert (judge(run).verdict.finding is not None) is dominates


def test_workers_that_feed_steps_of_several_batches_are_busy_with_all_of_them() -> None:
    feeding = runs.preparing(2, 45.0)
    once = runs.run({LOADING: 0.5}, loaders=[feeding])
    fourfold = runs.run({LOADING: 0.5}, loaders=[feeding], batches_per_step=4.0)
    assert bottleneck(once) == (LOADING, "worker_handoff")
    assert bottleneck(fourfold) == (LOADING, "cpu_preparation")


def test_causes_of_one_phase_never_add_up_to_more_than_the_phase() -> None:
    mixed = runs.fetching(2, 100.0, iterations=6, startup_ms=400.0, first_batch_ms=600.0)
    findings = judge(runs.run({LOADING: 0.5}, loaders=[mixed])).findings
    assert {found.cause for found in findings} >= {"startup", "storage"}
    assert sum(found.share for found in findings) <= 0.5 + 1e-9
