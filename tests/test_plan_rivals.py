"""Which remedies do not go together: told once to the training process, and by the cards."""

from __future__ import annotations

from itertools import combinations

import pytest

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.applied.rivals import RIVALS, rival
from speedprof.mitigations.catalogue import CATALOGUE
from speedprof.mitigations.plan_files import understand
from speedprof.profiler.errors import SpeedprofError

CONFLICTS = {one.name: one.conflicts for one in CATALOGUE}


def test_rivals_are_those_of_the_cards() -> None:
    by_cards = {
        frozenset((one, other))
        for one, other in combinations(AUTOMATIC, 2)
        if other in CONFLICTS.get(one, ()) or one in CONFLICTS.get(other, ())
    }
    assert by_cards == RIVALS


def test_a_remedy_is_no_rival_of_itself() -> None:
    assert rival("loader-workers", ["loader-workers", "tf32"]) is None
    assert rival("loader-workers", ["tf32", "in-process-loading"]) == "in-process-loading"


@pytest.mark.parametrize("pair", sorted(sorted(pair) for pair in RIVALS), ids=" and ".join)
def test_rivals_are_refused_in_whichever_order(pair: list[str]) -> None:
    for names in (pair, pair[::-1]):
        with pytest.raises(SpeedprofError, match="do not go together; choose one"):
            understand(",".join(names))
