"""Whatever was not measured: the advisor answers all the same, and never from nothing."""

from __future__ import annotations

import random
import typing
from typing import Any

import msgspec
import pytest
import runs
from remedy_cases import APPLIES

from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise, misfits
from speedprof.profiler.run import Run


def holes(fact: Any, chance: float, dice: random.Random) -> Any:
    """Return the fact with some of what may be missing taken away."""
    if isinstance(fact, list):
        return [] if dice.random() < chance else [holes(one, chance, dice) for one in fact]
    if not isinstance(fact, msgspec.Struct):
        return fact
    changes = {
        field.name: None
        if type(None) in typing.get_args(field.type) and dice.random() < chance
        else holes(getattr(fact, field.name), chance, dice)
        for field in msgspec.structs.fields(fact)
    }
    return msgspec.structs.replace(fact, **changes)


@pytest.mark.parametrize("name", APPLIES)
def test_missing_facts_never_make_the_advisor_fail(name: str) -> None:
    dice = random.Random(name)
    for _ in range(30):
        run = holes(APPLIES[name](), dice.choice([0.02, 0.1, 0.3]), dice)
        judgement = judge(run)
        assert judgement.verdict.sentence
        advise(run, judgement)
        misfits(run, judgement)


@pytest.mark.parametrize("name", APPLIES)
def test_a_run_survives_its_way_to_json_and_back(name: str) -> None:
    run = APPLIES[name]()
    again = msgspec.json.decode(msgspec.json.encode(run), type=Run)
    assert judge(again) == judge(run)


def test_phases_without_anything_else_are_judged_without_causes() -> None:
    shares = {"data_loading": 0.3, "host": 0.25, "outside": 0.2}
    bare = runs.run(shares, machines=[], loaders=[], lines=[])
    judgement = judge(bare)
    assert judgement.verdict.finding is not None
    assert judgement.verdict.finding.cause is None
    assert advise(bare, judgement) == ()
