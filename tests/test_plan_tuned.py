"""A plan is proved here: `tune --plan` tries its remedies before all others."""

from __future__ import annotations

from pathlib import Path

import runs

from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.candidates import candidates
from speedprof.tests.launching import script, speedprof

TF32 = Remedy(name="tf32", parameters={"precision": "high"})
WAITS = runs.run({"data_loading": 0.5}, loaders=[runs.preparing(0, 90.0)])


def test_a_plans_remedies_come_first_advised_or_not() -> None:
    advised = candidates(WAITS, ())
    assert "tf32" not in [one.remedy.name for one in advised]
    wanted = (Remedy(name="tf32", parameters={}), advised[-1].remedy)
    found = candidates(WAITS, (), wanted)
    first = [one.remedy for one in found[:2]]
    assert {one.name for one in first} == {"tf32", advised[-1].remedy.name}
    assert TF32 in first  # with its value named, so that it wins
    assert len(found) == len(advised) + 1


def test_a_plans_remedy_that_is_advised_keeps_its_prediction() -> None:
    best = candidates(WAITS, ())[0]
    found = candidates(WAITS, (), (best.remedy,))
    assert found[0] == best
    assert found[0].predicted is not None


def test_what_was_kept_of_the_plan_is_not_tried_again() -> None:
    found = candidates(WAITS, (TF32,), (Remedy(name="tf32", parameters={}),))
    assert "tf32" not in [one.remedy.name for one in found]


def test_a_plans_remedy_takes_the_place_of_its_rivals() -> None:
    workers = Remedy(name="loader-workers", parameters={"num_workers": 2})
    (first, *_) = candidates(
        WAITS, (workers,), (Remedy(name="in-process-loading", parameters={}),)
    )
    assert first.within((workers, TF32))[0] == TF32
    assert [one.name for one in first.within((workers, TF32))] == ["tf32", "in-process-loading"]


def test_a_wrong_plan_is_told_before_any_trial(tmp_path: Path) -> None:
    name = script(tmp_path, "raise SystemExit(3)\n")
    done = speedprof("tune", "--plan", "tf33", name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "speedprof: no remedy that can be applied is called 'tf33'; did you mean tf32?\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
