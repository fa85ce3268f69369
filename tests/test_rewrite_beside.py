"""What a remedy's advice wants beside it is written with it."""

from __future__ import annotations

import runs

from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.rewrite.proposal import orders
from speedprof.reports import view


def test_workers_come_with_the_threads_that_leave_them_a_core() -> None:
    slow = runs.run({"data_loading": 0.6}, loaders=[runs.preparing(0, 60.0)])
    asked = [Remedy(name="loader-workers", parameters={})]
    made = orders(slow, asked, view.of(slow).advice)
    assert [one.name for one in made] == ["loader-workers", "fewer-threads"]
    assert made[1].parameters == {"threads": 1}
    named = [*asked, Remedy(name="fewer-threads", parameters={"threads": 2})]
    assert orders(slow, named, view.of(slow).advice)[1].parameters == {"threads": 2}
    assert [one.name for one in orders(slow, asked)] == ["loader-workers"]  # nothing was advised
