"""The scoreboard of the advisor: its changes fit its scripts, and it counts what it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import planted
import pytest
from test_pipeline_model import BY_NAME
from test_pipeline_model import advice as advised

from speedprof.mitigations.catalogue import CATALOGUE, Advice

ROOT = Path(__file__).parent.parent
NAMES = {remedy.name for remedy in CATALOGUE}
GIVEN = {"num_workers": 2, "bucket_cap_mb": 8, "every": 50, "times_rarer": 98, "ahead": 8}
Load = Callable[[str], ModuleType]


def row(load: Load, **changes: object) -> object:
    told: dict[str, object] = {
        "script": "storage", "remedy": "loader-workers", "place": 1, "how": "num_workers=2",
        "predicted": (1.5, 2.0), "measured": 1.8, "interval": (1.7, 1.9),
    }  # fmt: skip
    return load("scoreboard").Row(**(told | changes))


def test_every_change_fits_its_script(load: Load) -> None:
    remedied, changes = load("remedied"), load("changes")
    scripts = {one.name: one for one in load("advice").ALL}
    for script, by_remedy in changes.CHANGES.items():
        source = scripts[script].path.read_text(encoding="utf-8")
        for always in scripts[script].always:
            source = remedied.applied(source, always, GIVEN)
        for remedy, change in by_remedy.items():
            changed = remedied.applied(source, change, GIVEN)
            compile(changed, f"{script} with {remedy}", "exec")
            assert (changed != source) or change.arguments


def test_changes_are_of_remedies_in_the_catalogue(load: Load) -> None:
    told = {name for of in load("changes").CHANGES.values() for name in of}
    assert told <= NAMES


def test_every_planted_script_and_every_example_is_on_the_scoreboard(load: Load) -> None:
    scripts = {one.name for one in load("advice").ALL}
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert scripts == {one.script for one in planted.PLANTED} | examples


def test_scripts_run_on_as_many_ranks_as_they_are_planted_with(load: Load) -> None:
    ranks = {one.name: one.ranks for one in load("advice").ALL}
    assert all(ranks[one.script] == one.ranks for one in planted.PLANTED)


@pytest.mark.parametrize("source", ["nothing of it", "a = 1\na = 1\n"])
def test_a_script_without_the_text_is_refused_by_name(load: Load, source: str) -> None:
    remedied = load("remedied")
    with pytest.raises(remedied.ChangeError, match="'a = 1'"):
        remedied.applied(source, remedied.lines("", ("a = 1", "a = 2")), {})


def test_the_advices_own_values_are_written(load: Load) -> None:
    remedied = load("remedied")
    change = remedied.lines("", ("workers=0", "workers=<num_workers>"))
    assert remedied.applied("f(workers=0)", change, {"num_workers": 3}) == "f(workers=3)"


def test_a_copy_leaves_the_script_as_it_is(load: Load, tmp_path: Path) -> None:
    remedied, script = load("remedied"), tmp_path / "train.py"
    script.write_text("a = 1\n")
    copy = remedied.copied(script, [remedied.lines("", ("1", "2"))], {}, tmp_path / "copies")
    assert (script.read_text(), copy.read_text()) == ("a = 1\n", "a = 2\n")


def test_the_first_remedy_that_can_be_applied_is_tried(load: Load) -> None:
    benchmark = load("advice")
    remedies: list[Advice] = [
        advised("data_loading", (1.1, 1.2), name="deferred-reading"),
        advised("data_loading", None, name="cache-samples"),
        advised("data_loading", (1.5, 1.9), name="loader-workers", num_workers=2),
    ]
    chosen, passed = benchmark.choose("storage", tuple(remedies))
    assert (chosen.advice, chosen.place) == (remedies[2], 3)
    assert [one.remedy for one in passed] == ["deferred-reading", "cache-samples"]
    assert "cannot be predicted" in passed[1].why


def test_what_nobody_can_apply_here_is_passed_over_with_its_reason(load: Load) -> None:
    remedy = replace(BY_NAME["rarer-work"], name="larger-batch")
    larger = replace(advised("data_loading", (2.0, 2.5)), mitigation=remedy)
    workers = advised("data_loading", (1.5, 1.9), name="loader-workers", num_workers=2)
    chosen, passed = load("advice").choose("storage", (larger, workers))
    assert chosen.place == 2
    assert [(one.remedy, one.why) for one in passed] == [("larger-batch", "changes the training")]


@pytest.mark.parametrize(
    ("measured", "right"), [(1.5, True), (2.0, True), (1.496, True), (1.4, False), (2.1, False)]
)
def test_a_gain_in_the_range_is_right(load: Load, measured: float, right: bool) -> None:
    assert row(load, measured=measured).in_range is right  # type: ignore[attr-defined]


def test_slower_is_what_is_slower_beyond_its_interval(load: Load) -> None:
    assert row(load, measured=0.9, interval=(0.85, 0.95)).slower  # type: ignore[attr-defined]
    assert not row(load, measured=0.98, interval=(0.9, 1.06)).slower  # type: ignore[attr-defined]


def test_the_summary_counts_what_is_right_wide_and_slower(load: Load) -> None:
    scoreboard = load("scoreboard")
    rows = [
        row(load),
        row(load, script="wide", predicted=(1.0, 2.6)),
        row(load, script="slow", measured=0.9, interval=(0.8, 0.95)),
        scoreboard.Row(script="none"),
        scoreboard.Row(script="broken", failed="no such file"),
    ]
    told = scoreboard.summary(rows).splitlines()
    assert told[0].startswith("2 of 3 measured gains")
    assert "NOT met" in told[0]
    assert told[1:] == [
        "ranges wider than 2.5: wide",
        "slower with the remedy that was ranked first: slow",
        "failed: broken",
    ]


def test_a_slow_remedy_of_the_second_place_is_not_the_first(load: Load) -> None:
    second = row(load, place=2, measured=0.9, interval=(0.8, 0.95))
    assert "ranked first: none" in load("scoreboard").summary([second])


def test_rows_come_back_from_json_as_they_were(load: Load) -> None:
    scoreboard = load("scoreboard")
    skipped = (scoreboard.Skipped(remedy="larger-batch", why="changes the training"),)
    for one in (row(load, skipped=skipped), scoreboard.Row(script="none")):
        assert scoreboard.from_plain(json.loads(json.dumps(one.plain()))) == one


def test_the_page_has_a_line_for_each_measured_gain(load: Load) -> None:
    scoreboard = load("scoreboard")
    rows = [row(load), row(load, script="off", measured=3.0), scoreboard.Row(script="none")]
    machine = {"cpu": "a CPU", "cores": 2, "torch": "2.9", "date": "2026-01-01T00:00:00",
               "load_average": [0.5, 3.6, 1.0]}  # fmt: skip
    content = {"machine": machine, "rounds": 3, "rows": [one.plain() for one in rows]}
    page = scoreboard.page(content)
    line = (
        "| storage | loader-workers | num_workers=2 | 1.50-2.00 | 1.80 [1.70, 1.90] | in range |"
    )
    assert line in page
    assert "3.00 [1.70, 1.90] | **off** |" in page
    assert "nothing to try: none" in page
    assert "Other programs ran beside it (load average 3.6)" in page


def test_the_documented_scoreboard_is_the_measured_one(load: Load) -> None:
    results = ROOT / "benchmarks" / "results" / "advice.json"
    content = json.loads(results.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "scoreboard.md").read_text(encoding="utf-8")
    assert load("scoreboard").page(content) == page
