"""The scoreboard of tune: its fixes fit its scripts, and it counts what it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from speedprof.mitigations import plan_files

ROOT = Path(__file__).parent.parent
Load = Callable[[str], ModuleType]
PLAN = [
    {"name": "loader-workers", "parameters": {"num_workers": 2}},
    {"name": "channels-last", "parameters": {}},
]
TOLD = {
    "plan": PLAN,
    "ended": "the budget is used up",
    "tried": [
        {"name": "loader-workers", "parameters": {"num_workers": 2}, "kept": True, "why": ""},
        {"name": "tf32", "parameters": {}, "kept": False, "why": "it had no effect"},
    ],
}


def rows(mean_ms: float, seed: int) -> NDArray[np.float64]:
    noise = np.random.default_rng(seed).normal(1.0, 0.02, 60)
    return np.column_stack((mean_ms * noise, np.ones(60)))


def runs_of(mean_ms: float, seed: int = 0) -> list[NDArray[np.float64]]:
    return [rows(mean_ms, seed + number) for number in range(3)]


def planted(load: Load, name: str = "storage") -> Any:
    return next(one for one in load("tuning_scripts").PLANTED if one.script == name)


def measured(load: Load, plan_ms: float = 21.0, without: dict[str, float] | None = None) -> Any:
    """Return the row of a script that takes 60 ms, and 20 ms with the best fix by hand."""
    tuning = load("tuning")
    left_out = {"loader-workers": 40.0, "channels-last": 24.0} | (without or {})
    means = {"as it is": 60.0, "fix 0": 30.0, "fix 1": 20.0, "plan": plan_ms}
    means |= {f"without {name}": mean for name, mean in left_out.items()}
    steps = {name: runs_of(mean, 10 * n) for n, (name, mean) in enumerate(means.items())}
    found = tuning.Tuned(told=TOLD, plan=Path("plan.toml"), minutes=1.5)
    return tuning.row(planted(load), found, steps)


def test_there_are_ten_scripts_at_least_and_each_is_planted(load: Load) -> None:
    names = [one.script for one in load("tuning_scripts").PLANTED]
    assert len(set(names)) == len(names) >= 10
    assert all((ROOT / "tests" / "scripts" / f"{name}.py").is_file() for name in names)


def test_every_fix_fits_its_script(load: Load) -> None:
    remedied = load("remedied")
    for one in load("tuning_scripts").PLANTED:
        source = (ROOT / "tests" / "scripts" / f"{one.script}.py").read_text(encoding="utf-8")
        for change in one.changes:
            source = remedied.applied(source, change, {})
        for fix in one.fixes:
            fixed = source
            for change in fix.changes:
                fixed = remedied.applied(fixed, change, {})
            compile(fixed, f"{one.script}: {fix.words}", "exec")
            assert fixed != source


def test_a_script_on_several_ranks_is_started_by_torchrun(load: Load) -> None:
    start = load("tuning").started
    assert "torch.distributed.run" in start(planted(load, "transfer"), Path("train.py"))
    assert "torch.distributed.run" not in start(planted(load), Path("train.py"))


def test_what_is_reached_is_the_part_of_the_best_fixs_speed(load: Load) -> None:
    row = measured(load)
    assert row.plan.ratio == pytest.approx(60 / 21, rel=0.01)
    assert row.fixes[0].words == planted(load).fixes[1].words
    assert [round(one.gain.ratio) for one in row.fixes] == [3, 2]
    assert row.reached.ratio == pytest.approx(20 / 21, rel=0.01)
    assert row.enough
    assert row.before_ms == pytest.approx(60.0, rel=0.01)
    assert not measured(load, plan_ms=24.0).enough


def test_a_kept_remedy_is_harmful_where_the_plan_is_faster_without_it(load: Load) -> None:
    assert measured(load).harmful == ()
    row = measured(load, without={"channels-last": 18.0})
    assert row.harmful == ("channels-last",)
    assert [one.own.ratio > 1 for one in row.kept] == [True, False]


def test_a_single_remedy_is_measured_against_the_script_as_it_is(load: Load) -> None:
    tuning = load("tuning")
    found = tuning.Tuned(told={**TOLD, "plan": PLAN[:1]}, plan=Path("plan.toml"), minutes=1.0)
    steps = {"as it is": runs_of(60.0), "fix 0": runs_of(30.0, 1), "fix 1": runs_of(20.0, 2),
             "plan": runs_of(90.0, 3)}  # fmt: skip
    row = tuning.row(planted(load), found, steps)
    assert row.harmful == ("loader-workers (num_workers=2)",)
    names = [arm.name for arm in tuning.arms(planted(load), found, Path())]
    assert names == ["as it is", "fix 0", "fix 1", "plan"]


def test_where_nothing_was_kept_the_script_as_it_is_is_what_was_reached(load: Load) -> None:
    tuning = load("tuning")
    found = tuning.Tuned(told={**TOLD, "plan": []}, plan=None, minutes=1.0)
    steps = {"as it is": runs_of(22.0), "fix 0": runs_of(30.0, 1), "fix 1": runs_of(20.0, 2)}
    row = tuning.row(planted(load), found, steps)
    assert (row.plan, row.kept) == (None, ())
    assert row.reached.ratio == pytest.approx(20 / 22, rel=0.01)
    assert row.enough


def test_each_of_several_remedies_is_left_out_once(load: Load, tmp_path: Path) -> None:
    tuning = load("tuning")
    whole = plan_files.understand("loader-workers=2,channels-last")
    plan = tmp_path / "plan.toml"
    plan.write_text(plan_files.write(whole))
    found = tuning.Tuned(told=TOLD, plan=plan, minutes=1.0)
    arms = {arm.name: arm for arm in tuning.arms(planted(load), found, tmp_path / "plans")}
    rest = plan_files.read(arms["without loader-workers"].plan)
    assert [one.name for one in rest.remedies] == ["channels-last"]
    assert plan_files.read(arms["plan"].plan).remedies == whole.remedies


def test_the_summary_says_which_bars_are_met(load: Load) -> None:
    scoreboard = load("tuning_scoreboard")
    good, little = measured(load), measured(load, plan_ms=40.0)
    failed = scoreboard.Row(script="broken", failed="no such file")
    told = scoreboard.summary([good, little, failed]).splitlines()
    assert told[0].startswith("1 of 2 scripts reach 85 % of the best fix; less: storage (")
    assert told[1].startswith("harmful remedies kept: ")
    assert told[2] == "failed: broken"


def test_rows_come_back_from_json_as_they_were(load: Load) -> None:
    scoreboard = load("tuning_scoreboard")
    for one in (measured(load), scoreboard.Row(script="broken", failed="no such file")):
        plain = json.loads(json.dumps(one.plain()))
        again = scoreboard.from_plain(plain)
        assert again.plain() == one.plain()
        assert str(again)


def test_the_page_tells_each_script_what_was_kept_and_what_was_not(load: Load) -> None:
    machine = {"cpu": "a CPU", "cores": 2, "torch": "2.9", "date": "2026-01-01T00:00:00",
               "load_average": [0.5, 3.6, 1.0]}  # fmt: skip
    content = {
        "machine": machine,
        "rounds": 3,
        "budget": 2.0,
        "threads": None,
        "rows": [measured(load).plain()],
    }
    page = load("tuning_scoreboard").page(content)
    assert "| storage | 60 | 2.8" in page
    assert "- storage: loader-workers (num_workers=2) 1.9" in page
    assert "- storage: tf32 (it had no effect); ended because the budget is used up" in page
    assert "2 minutes for each tuning, 3 rounds" in page
    assert "Other programs ran beside it (load average 3.6)" in page


def test_the_documented_scoreboard_is_the_measured_one(load: Load) -> None:
    results = ROOT / "benchmarks" / "results" / "tuning.json"
    page = ROOT / "docs" / "tuning-scoreboard.md"
    assert results.exists() == page.exists()
    if not results.exists():
        pytest.skip("the scoreboard was not measured yet")
    content = json.loads(results.read_text(encoding="utf-8"))
    assert load("tuning_scoreboard").page(content) == page.read_text(encoding="utf-8")
