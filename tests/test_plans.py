"""Which remedies go together, in which order, and how reports say it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import jsonschema
import pytest
import runs
from pages import all_of, parse
from rich.cells import cell_len
from test_pipeline_model import BY_NAME, advice, workers
from views_traces import VIEWS

from speedprof.mitigations.catalogue import Advice
from speedprof.mitigations.plans import Outlook, Plan, outlook, plan
from speedprof.profiler.run import Run
from speedprof.reports import plan_words, to_html, to_json, to_text, view
from speedprof.reports.view import View

SLOW = {"data_loading": 0.5, "host": 0.2, "outside": 0.1}


def slow_run() -> Run:
    return runs.run(SLOW, loaders=[runs.preparing(cpu_ms=50.0)], machines=[runs.machine(8)])


def together(run: Run, *advised: Advice) -> Plan:
    made = plan(run, advised)
    assert made is not None
    return made


def shown(*advised: Advice) -> View:
    run = slow_run()
    return replace(view.of(run), advice=advised, outlook=outlook(run, advised))


def named(name: str, **changes: object) -> Advice:
    """Return a remedy that saves a sixth of the step between steps, some of it changed."""
    one = advice("outside", (1.08, 1.11), share=0.1, rule=f"rule-of-{name}")
    remedy = replace(BY_NAME["rarer-work"], name=name, **changes)  # type: ignore[arg-type]
    return replace(one, mitigation=remedy)


BATCHES = workers((1.5, 1.9))
PYTHON = advice("host", (1.1, 1.25), cause="python", share=0.2)
REPORTS = advice("outside", (1.05, 1.11), cause="logging", share=0.1, name="rarer-checkpoints")


def test_a_plan_gains_more_than_its_best_remedy() -> None:
    made = together(slow_run(), BATCHES, PYTHON)
    assert made.names == ("loader-workers", "rarer-work")
    assert made.gain.low > 1.5
    assert made.gain.high > 1.9


def test_a_remedy_that_adds_nothing_is_left_out() -> None:
    """Behind workers that are never idle, a shorter host changes nothing."""
    loader = runs.preparing(2, cpu_ms=200.0)
    run = runs.run({"data_loading": 0.5, "outside": 0.3}, loaders=[loader])
    cached = advice("data_loading", (1.2, 1.3), cause="cpu_preparation", share=0.5)
    later = advice("outside", (1.2, 1.4), share=0.3, name="rarer-checkpoints")
    assert together(run, cached, later).names == ("rarer-work",)


def test_what_changes_the_training_is_in_no_plan() -> None:
    assert plan(slow_run(), [named("larger", safety="changes_training")]) is None


def test_what_may_be_slower_is_in_no_plan() -> None:
    risky = advice("host", (0.8, 1.9), share=0.2)
    assert plan(slow_run(), [risky]) is None


def test_what_cannot_be_predicted_is_in_no_plan() -> None:
    assert plan(slow_run(), [advice("host", None)]) is None


@pytest.mark.parametrize("side", [0, 1])
def test_remedies_that_conflict_are_not_used_together(side: int) -> None:
    conflicts = [(), ("other",)] if side else [("that",), ()]
    first, second = named("other", conflicts=conflicts[0]), named("that", conflicts=conflicts[1])
    assert together(slow_run(), first, second).names == ("other",)


def test_a_remedy_comes_after_those_that_it_names() -> None:
    late, early = named("late", after=("early", "absent")), named("early")
    halves = [replace(one, finding=replace(one.finding, share=0.05)) for one in (late, early)]
    small = [
        replace(one, fit=advice("outside", (1.05, 1.05)).fit) for one in halves
    ]  # half of it each
    assert together(slow_run(), *small).names == ("early", "late")


def test_remedies_that_wait_for_each_other_keep_their_order() -> None:
    pair = (named("one", after=("two",)), named("two", after=("one",)))
    small = [
        replace(
            each,
            finding=replace(each.finding, share=0.05),
            fit=advice("outside", (1.05, 1.05)).fit,
        )
        for each in pair
    ]
    assert together(slow_run(), *small).names == ("one", "two")


def test_a_run_without_phases_has_no_plan() -> None:
    assert plan(runs.run(phases=None), [BATCHES]) is None


def test_nothing_is_planned_where_nothing_is_advised() -> None:
    assert outlook(slow_run(), []) == Outlook()


def test_the_terminal_says_what_all_of_them_gain_and_what_comes_next() -> None:
    text = " ".join(to_text.render(shown(BATCHES, PYTHON), width=100).split())
    assert "All of these together: 1." in text
    assert "× faster; then computing leads (" in text


def test_a_plan_of_some_remedies_names_them() -> None:
    text = " ".join(to_text.render(shown(BATCHES, PYTHON, advice("host", None))).split())
    assert "loader-workers + rarer-work together:" in text


def test_of_a_single_remedy_only_what_comes_next_is_said() -> None:
    text = " ".join(to_text.render(shown(BATCHES)).split())
    assert "After loader-workers, computing leads (" in text
    assert "together" not in text


def test_without_a_plan_nothing_is_said() -> None:
    assert plan_words.sentence(shown(advice("host", None))) is None
    assert plan_words.sentence(replace(shown(BATCHES), outlook=None)) is None


def test_each_card_says_what_comes_next() -> None:
    page = to_html.render(shown(BATCHES, PYTHON))
    elements = parse(page)
    outcomes = [one.text for one in all_of(elements, "p") if "outcome" in str(one.attributes)]
    assert "then computing leads" in outcomes[0]
    assert "then data loading leads" in outcomes[1]


def test_the_page_shows_the_step_before_and_after_the_plan() -> None:
    elements = parse(to_html.render(shown(BATCHES, PYTHON, REPORTS)))
    captions = [one.text for one in all_of(elements, "caption")]
    assert "One step now, and after all of the plan" in captions
    headings = [one.text for one in all_of(elements, "h3")]
    assert any(heading.startswith("Together: ") for heading in headings)


def test_the_json_holds_the_plan_by_its_schema() -> None:
    report = json.loads(to_json.render(shown(BATCHES, PYTHON, advice("host", None))))
    jsonschema.Draft202012Validator(to_json.schema()).validate(report)
    assert report["plan"]["remedies"] == ["loader-workers", "rarer-work"]
    assert report["plan"]["then"]["phases"] == ["compute"]
    assert report["plan"]["gain"]["low"] > 1.5
    assert "then" in report["mitigations"][0]
    assert "then" not in report["mitigations"][2]


def test_a_report_without_a_plan_has_no_key_for_it() -> None:
    assert "plan" not in json.loads(to_json.render(shown()))


def test_the_view_of_a_run_has_its_outlook() -> None:
    seen = view.of(slow_run())
    assert seen.outlook is not None
    assert {
        one.mitigation.name for one in seen.advice if one.fit.gain
    } == seen.outlook.after.keys()


@pytest.mark.parametrize("made", VIEWS.values(), ids=VIEWS.keys())
def test_every_report_bears_an_outlook(made: Callable[[], View]) -> None:
    seen = made()
    seen = replace(seen, outlook=outlook(seen.run, seen.advice))
    jsonschema.Draft202012Validator(to_json.schema()).validate(json.loads(to_json.render(seen)))
    assert parse(to_html.render(seen))
    for width in (40, 80):
        assert all(
            cell_len(line) <= width for line in to_text.render(seen, width=width).split("\n")
        )
