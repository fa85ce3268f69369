"""What a plan has put in force already is advised no more; other values of it are."""

from __future__ import annotations

import pytest
import runs
from remedies_compute import imaging

from speedprof.advisor.judgement import judge
from speedprof.mitigations.applied.words import OWN_ARGUMENT
from speedprof.mitigations.catalogue import fits, misfits
from speedprof.profiler.run import InForce, Run


def in_force(
    name: str, effects: int = 1, note: str = "", **parameters: bool | float | str
) -> InForce:
    notes = [note] if note else []
    return InForce(name=name, parameters=parameters, effects=effects, notes=notes)


def waiting(*applied: InForce) -> Run:
    return runs.run({"data_loading": 0.8}, loaders=[runs.preparing(0, 90.0)], applied=[*applied])


def convolving(*applied: InForce) -> Run:
    return imaging(applied=[*applied])  # the layout was seen before the remedy changed it


def advised(run: Run) -> list[str]:
    return [one.mitigation.name for one in fits(run, judge(run))]


@pytest.mark.parametrize("name", ["loader-workers", "channels-last"])
def test_a_remedy_in_force_is_no_advice_and_the_reason_says_so(name: str) -> None:
    made = waiting if name == "loader-workers" else convolving
    plain = made()
    (fit,) = [one.fit for one in fits(plain, judge(plain)) if one.mitigation.name == name]
    run = made(in_force(name, **dict(fit.parameters)))
    assert name not in advised(run)
    assert misfits(run, judge(run))[name].reason == "it is in force already"


def test_other_values_of_it_are_advice_all_the_same() -> None:
    assert "loader-workers" in advised(waiting(in_force("loader-workers", num_workers=13)))


def test_what_was_refused_in_this_run_is_no_advice() -> None:
    note = "a DataLoader stays without workers: its data set cannot be pickled"
    run = waiting(in_force("loader-workers", effects=0, note=note, num_workers=2))
    assert "loader-workers" not in advised(run)
    assert misfits(run, judge(run))["loader-workers"].reason.endswith(f"no effect: {note}")


def test_what_the_scripts_own_argument_kept_out_is_still_advice() -> None:
    note = f"{OWN_ARGUMENT} num_workers of DataLoader itself; name it in the plan to change it"
    run = waiting(in_force("loader-workers", effects=0, note=note, num_workers=2))
    assert "loader-workers" in advised(run)


def test_what_had_no_effect_is_still_advice() -> None:
    plain = waiting()
    fit = next(o.fit for o in fits(plain, judge(plain)) if o.mitigation.name == "loader-workers")
    run = waiting(in_force("loader-workers", effects=0, **dict(fit.parameters)))
    assert "loader-workers" in advised(run)
