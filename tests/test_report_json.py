"""`report.json` keeps its contract, whatever the run was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import msgspec
import pytest
from view_facts import step_times
from views import balanced, loader_bound, nothing_measured, run
from views_large import hostile_names
from views_traces import VIEWS, recorded, recorded_ranks

from speedprof.advisor.finding import CAUSES
from speedprof.mitigations.mitigation import ACTIONS, COMPONENTS, HOWS, SAFETIES
from speedprof.profiler.run import PHASES
from speedprof.reports import to_json
from speedprof.reports.view import View

GOLDEN = Path(__file__).parent / "report_golden.json"
VALIDATOR = jsonschema.Draft202012Validator(to_json.schema())


@pytest.mark.parametrize("made", VIEWS.values(), ids=VIEWS.keys())
def test_every_report_follows_the_schema(made: Callable[[], View]) -> None:
    VALIDATOR.validate(json.loads(to_json.render(made())))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(to_json.schema())


def test_the_report_of_a_known_run_is_the_known_report() -> None:
    assert to_json.render(loader_bound()) == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 1.5),
        (("extra",), 1),
        (("run", "extra"), 1),
        (("phases", "sleep"), {}),
        (("phases", "compute", "share"), 1.2),
        (("run", "kind"), "guess"),
        (("ceilings", "compute"), {}),
        (("ceilings", "data_loading", "speedup_low"), 0.9),
        (("gpu_use",), {"step_ms": 1.0}),
        (("communication",), {}),
        (("bottleneck", "cause"), "transfer"),
        (("findings", 0, "bottleneck"), "data loading"),
        (("mitigations", 0, "safety"), "safe"),
        (("mitigations", 0, "gain"), {"low": 1}),
    ],
)
def test_the_schema_refuses_what_the_contract_does_not_have(
    path: tuple[str | int, ...], value: object
) -> None:
    report = json.loads(to_json.render(loader_bound()))
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(report)


def test_the_schema_names_what_the_code_names() -> None:
    shape = to_json.schema()["properties"]
    assert isinstance(shape, dict)
    causes = {
        rule["if"]["properties"]["phase"]["const"]: rule["then"]["properties"]["cause"]["enum"]
        for rule in shape["bottleneck"]["oneOf"][1]["allOf"]
    }
    assert causes == {phase: [*named, None] for phase, named in CAUSES.items()}
    remedy = shape["mitigations"]["items"]["properties"]
    assert remedy["safety"]["enum"] == list(SAFETIES)
    assert remedy["how"]["enum"] == list(HOWS)
    assert remedy["action"]["enum"] == [*ACTIONS, None]
    assert remedy["component"]["enum"] == [*COMPONENTS, None]
    assert tuple(shape["phases"]["oneOf"][1]["properties"]) == PHASES


def test_nothing_standing_out_is_null_with_a_sentence() -> None:
    report = json.loads(to_json.render(balanced()))
    assert report["bottleneck"] is None
    assert report["verdict"].startswith("Nothing stands out")


def test_a_recorded_trace_says_so_and_how_the_gpu_was_used() -> None:
    report = json.loads(to_json.render(recorded()))
    assert report["run"]["kind"] == "trace"
    assert report["gpu_use"]["loader_idle_ms"] == pytest.approx(60.2)
    gone = report["ceilings"]["data_loading"]
    assert gone["low_ms"] < 141.07 < gone["high_ms"]


def test_matched_collectives_are_told_rank_by_rank() -> None:
    report = json.loads(to_json.render(recorded_ranks()))
    matching = report["communication"]["matching"]
    assert matching["stragglers"][0]["rank"] == 2
    assert [rank["rank"] for rank in matching["ranks"]] == [0, 1, 2, 3]
    assert report["missing_ranks"] == [[4, 7]]


def test_what_was_not_measured_is_null() -> None:
    report = json.loads(to_json.render(nothing_measured()))
    assert report["phases"] is None
    assert report["run"]["step_ms"] is None
    assert report["run"]["samples_per_s"] is None
    assert report["not_measured"] == [
        {"what": "everything", "why": "no process was reached (python -I)"}
    ]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_null(odd: float) -> None:
    times = msgspec.structs.replace(step_times(40.0), samples_per_s=odd)
    view = replace(loader_bound(), run=run(step_ms=times))
    assert json.loads(to_json.render(view))["run"]["samples_per_s"] is None


def test_parameters_that_json_does_not_know_are_spelled() -> None:
    view = loader_bound()
    best = view.advice[0]
    fit = replace(
        best.fit, parameters={"dtype": complex(1, 2), "sizes": (1, 2.5, None, "a\udcff")}
    )
    view = replace(view, advice=(replace(best, fit=fit),))
    parameters = json.loads(to_json.render(view))["mitigations"][0]["parameters"]
    assert parameters == {"dtype": "(1+2j)", "sizes": [1, 2.5, None, "a\\xff"]}


def test_hostile_names_stay_data_in_plain_ascii() -> None:
    text = to_json.render(hostile_names())
    assert text.isascii()
    assert "\x1b" not in text
    command = json.loads(text)["run"]["command"][1]
    assert "</script>" in command
    assert "\u202e" in command  # programs get the name as it is
    command.encode("utf-8")


def test_notes_stand_in_the_report_where_there_are_any() -> None:
    view = loader_bound()
    told = "the plan was proved on a Cray-1, not on this machine"
    noted = replace(view, run=msgspec.structs.replace(view.run, notes=[told]))
    report = json.loads(to_json.render(noted))
    VALIDATOR.validate(report)
    assert report["notes"] == [told]
    silent = replace(view, run=msgspec.structs.replace(view.run, notes=[]))
    assert "notes" not in json.loads(to_json.render(silent))
