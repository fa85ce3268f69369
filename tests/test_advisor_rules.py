"""Each rule fires on its symptom, and is silent without it or where it was not measured."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import runs
from case_runs import hosting
from rule_cases import FIRES, LOADING, NOT_MEASURED, SILENT, loading, recorded, talking

from speedprof.advisor import rules
from speedprof.advisor.finding import CAUSES, Finding
from speedprof.advisor.rules import RULES, python_time
from speedprof.profiler.run import Phase, Run, Transform

UNSEEN = {"phases": None, "step_ms": None}

BY_NAME: dict[str, ModuleType] = {rule.NAME: rule for rule in RULES}
EACH = pytest.mark.parametrize("name", BY_NAME)


@EACH
def test_a_rule_fires_on_its_symptom(name: str) -> None:
    make, cause, share = FIRES[name]
    found = BY_NAME[name].check(make())
    assert isinstance(found, Finding)
    assert found.rule == name
    assert found.cause == cause
    assert cause is None or cause in CAUSES[found.phase]
    assert found.share == pytest.approx(share, rel=0.01)
    assert found.low <= found.share <= found.high


@EACH
def test_a_rule_says_numbers_in_one_sentence(name: str) -> None:
    found = BY_NAME[name].check(FIRES[name][0]())
    assert any(letter.isdigit() for letter in found.evidence)
    assert "\n" not in found.evidence
    assert "None" not in found.evidence
    assert not found.evidence.endswith(".")  # it becomes a part of longer sentences


@EACH
def test_a_rule_is_silent_without_its_symptom(name: str) -> None:
    for make in SILENT[name]:
        assert BY_NAME[name].check(make()) is None


@EACH
def test_a_rule_is_silent_where_it_was_not_measured(name: str) -> None:
    for make in NOT_MEASURED[name]:
        assert BY_NAME[name].check(make()) is None


@EACH
def test_a_rule_is_silent_where_no_step_was_seen(name: str) -> None:
    seen = FIRES[name][0]()
    facts = {field: getattr(seen, field) for field in seen.__struct_fields__}
    assert BY_NAME[name].check(Run(**(facts | UNSEEN))) is None


@EACH
def test_a_rule_survives_a_step_without_time(name: str) -> None:
    seen = FIRES[name][0]()
    nothing = Phase(share=0.0, low=0.0, high=0.0, ms=0.0)
    facts = {field: getattr(seen, field) for field in seen.__struct_fields__}
    facts["phases"] = dict.fromkeys(seen.phases or {}, nothing)
    assert BY_NAME[name].check(Run(**facts)) is None


@EACH
def test_a_rules_file_says_why_and_from_which_share(name: str) -> None:
    text = BY_NAME[name].__doc__ or ""
    for label in ("Does:", "Why:", "Evidence:", "Threshold:"):
        assert f"\n{label}" in text


def test_rules_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(RULES)


def test_every_cause_has_a_rule() -> None:
    assert {cause for causes in CAUSES.values() for cause in causes} == {
        cause for _, cause, _ in FIRES.values() if cause is not None
    }


def test_a_generator_that_waits_is_bound_by_storage_at_its_line() -> None:
    waiting = runs.line(LOADING, "waiting", 0.4, "train.py:20")
    seen = runs.run({LOADING: 0.5}, input_kind="generator", lines=[waiting])
    found = BY_NAME["storage-bound"].check(seen)
    assert (found.cause, found.where) == ("storage", "train.py:20")
    assert "train.py:20" in found.evidence
    assert BY_NAME["preparation-bound"].check(seen) is None


def test_a_generator_that_computes_is_bound_by_preparation_at_its_line() -> None:
    lines = [
        runs.line(LOADING, "batches", 0.3, "train.py:22"),
        runs.line(LOADING, "python", 0.15, "train.py:23"),
    ]
    seen = runs.run({LOADING: 0.5}, input_kind="function", lines=lines)
    found = BY_NAME["preparation-bound"].check(seen)
    assert (found.cause, found.where) == ("cpu_preparation", "train.py:22")
    assert BY_NAME["storage-bound"].check(seen) is None


def test_a_few_stack_samples_do_not_name_the_cause_of_a_generators_time() -> None:
    few = [runs.line(LOADING, "waiting", 0.05)]
    seen = runs.run({LOADING: 0.5}, input_kind="generator", lines=few)
    assert BY_NAME["storage-bound"].check(seen) is None


def test_huge_batches_that_are_mostly_collated_are_a_hand_off_even_with_busy_workers() -> None:
    collated = {"getitem_ms": 20.0, "collate_ms": 170.0, "batch_bytes": 200 << 20}
    seen = loading(runs.preparing(2, 190.0, **collated))
    assert BY_NAME["handoff-bound"].check(seen).cause == "worker_handoff"
    assert BY_NAME["preparation-bound"].check(seen) is None


@pytest.mark.parametrize(
    ("making_ms", "cause"), [(110.0, "worker_handoff"), (130.0, "cpu_preparation")]
)
def test_workers_that_are_idle_four_tenths_of_the_time_are_not_the_limit(
    making_ms: float, cause: str
) -> None:
    seen = loading(runs.preparing(2, making_ms))
    found = [rule.check(seen) for rule in RULES]
    assert [one.cause for one in found if one is not None] == [cause]


def test_starts_of_short_epochs_are_counted_as_often_as_they_happen() -> None:
    """30 epochs of 4 steps, 10 of them warm-up: a start every fourth step, not more."""
    short = runs.preparing(2, 4.0, iterations=30, startup_ms=20.0, first_batch_ms=104.0)
    seen = runs.run({LOADING: 0.5}, loaders=[short], steps=120, warmup_steps=10)
    assert BY_NAME["worker-startup"].check(seen).share == pytest.approx(0.25, rel=0.01)


def test_a_wait_is_not_called_storage_when_a_busy_cpu_may_explain_it() -> None:
    unknown = {"storage_wait_ms": None, "queued_ms": None}
    slow = runs.fetching(0, 50.0, **unknown)
    busy = loading(slow, machines=[runs.machine(cpu_load=0.97)])
    idle = loading(slow, machines=[runs.machine(cpu_load=0.40)])
    assert BY_NAME["storage-bound"].check(busy) is None
    assert BY_NAME["storage-bound"].check(idle).cause == "storage"


def test_the_costliest_transform_is_named() -> None:
    chain = [
        Transform(name="Resize", ms_per_sample=0.5, calls=640),
        Transform(name="Normalize", ms_per_sample=0.1, calls=640),
    ]
    found = BY_NAME["preparation-bound"].check(loading(runs.preparing(0, 50.0, transforms=chain)))
    assert "of it 32.0 ms in Resize" in found.evidence


def test_the_late_rank_and_what_keeps_it_are_named() -> None:
    late = {"late_rank": 3, "late_rank_share": 0.9, "late_rank_phase": LOADING}
    found = BY_NAME["straggler"].check(talking(transfer_ms=5.0, waiting_ms=35.0, **late))
    assert "rank 3 is the late one, for 90 % of the waiting" in found.evidence
    assert "waits for its data" in found.evidence


def test_ranks_that_take_turns_at_being_late_are_not_blamed_singly() -> None:
    late = {"late_rank": 3, "late_rank_share": 0.3}
    found = BY_NAME["straggler"].check(talking(transfer_ms=5.0, waiting_ms=35.0, **late))
    assert "no one rank" in found.evidence


def test_the_documentation_lists_every_rule_with_its_bottleneck() -> None:
    page = (Path(rules.__file__).parents[2] / "docs" / "rules.md").read_text()
    for name, (make, _, _) in FIRES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        assert row.endswith(f"| {BY_NAME[name].check(make()).bottleneck} |")


@pytest.mark.parametrize(
    ("makers", "said"),
    [
        ("num_workers=0", "the training thread makes its own batches"),
        ("worker processes", "the worker processes deliver too late"),
        (None, "what it waits for was not recorded"),
    ],
)
def test_a_trace_tells_who_made_the_batches_as_far_as_it_can(makers: str, said: str) -> None:
    found = BY_NAME["recorded-loading"].check(recorded(makers))
    assert found.evidence.startswith(said)
    assert found.evidence.endswith(
        "the GPU is idle meanwhile for 50.0 of 100 ms (50 %) of each step"
    )


@pytest.mark.parametrize(("device", "said"), [("cpu", "takes"), ("cuda", "keeps the device wait")])
def test_python_keeps_no_device_waiting_where_there_is_none(device: str, said: str) -> None:
    found = python_time.check(hosting(host=runs.host(python_ms=40.0), device=device))
    assert found is not None
    assert found.evidence.startswith(f"Python {said}")
