"""How a plan was found stands in the report of the run under it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import runs

from speedprof.mitigations.gains import Gain
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.decision import Speedup
from speedprof.mitigations.tuning.outcome import save, told
from speedprof.mitigations.tuning.proof import Proof
from speedprof.mitigations.tuning.tuned import Tried, Tuned
from speedprof.profiler import run_tuning
from speedprof.reports import to_html, to_json, to_text, view

KEPT = Tried(
    remedy=Remedy(name="loader-workers", parameters={"num_workers": 2}),
    predicted=Gain(low=1.4, high=2.0, model="a model"),
    measured=Speedup(ratio=1.8, low=1.7, high=1.9),
    proof=Proof(passed=True, sentence="the mean loss differs by 0.01"),
    kept=True,
    why="the mean loss differs by 0.01",
    trials=("03-loader-workers",),
)
FAILED = Tried(
    remedy=Remedy(name="tf32", parameters={}),
    predicted=None,
    measured=None,
    proof=None,
    kept=False,
    why="the script failed (exit status 1): <no memory>",
    trials=("05-tf32",),
)


def tuned(folder: Path) -> Tuned:
    return Tuned(
        folder=folder,
        plan=(KEPT.remedy,),
        tried=[KEPT, FAILED],
        total=KEPT.measured,
        before=folder / "1",
        after=folder / "2",
        ended="the budget is used up",
    )


def test_it_stands_in_all_reports(tmp_path: Path) -> None:
    seen = view.of(runs.run({"data_loading": 0.3}, tuning=told(tuned(tmp_path))))
    assert "With its plan it is 1.80x [1.70, 1.90] as fast (measured)" in to_text.render(seen)
    report = json.loads(to_json.render(seen))
    jsonschema.validate(report, to_json.schema())
    assert [one["kept"] for one in report["tuning"]["tried"]] == [True, False]
    page = to_html.render(seen)
    assert "How this plan was found" in page
    assert "&lt;no memory&gt;" in page


def test_it_is_written_beside_the_trials_and_into_the_run_under_the_plan(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    plan = save(tuned(tmp_path), machine="a CPU, 2 cores", torch="2.9")
    assert plan is not None
    assert "num_workers = 2" in plan.read_text()
    found = run_tuning.decoded((tmp_path / "2" / run_tuning.FILE).read_bytes())
    assert found == told(tuned(tmp_path))
    assert not (tmp_path / "1" / run_tuning.FILE).exists()


def test_without_a_kept_remedy_there_is_no_plan(tmp_path: Path) -> None:
    nothing = Tuned(folder=tmp_path, tried=[FAILED], ended="nothing was left")
    assert save(nothing, machine=None, torch=None) is None
    assert list(tmp_path.glob("*")) == [tmp_path / run_tuning.FILE]


def test_a_damaged_or_newer_file_tells_nothing() -> None:
    assert run_tuning.decoded(b"{") is None
    newer = {"format": 2, "ended": "", "plan": [], "speedup": None, "tried": []}
    told_of = json.dumps(newer | {"before": None, "after": None}).encode()
    assert run_tuning.decoded(told_of) is None
