"""What needs code of its own around the script's is named in one call at the script's top."""

from __future__ import annotations

from pathlib import Path

from rewrites import order, outcome, refused, unchanged, written

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.rewrite.proposal import propose
from speedprof.mitigations.rewrite.rewriting import BY_CALL, REWRITINGS, rewrite
from speedprof.mitigations.rewrite.sources import Source
from speedprof.mitigations.rewrite.targets import Target, Targets

SCRIPT = """\
import torch
from torch.utils.data import DataLoader

loader = DataLoader(data, batch_size=8)
"""


def test_every_remedy_that_can_be_put_in_force_can_be_written() -> None:
    assert set(AUTOMATIC) <= set(REWRITINGS) | set(BY_CALL)
    assert not set(REWRITINGS) & set(BY_CALL)


def test_the_call_stands_below_the_imports_and_says_what_it_needs() -> None:
    changed, made = outcome(SCRIPT, "dali-loading")
    assert changed.startswith(
        "import torch\nfrom torch.utils.data import DataLoader\nimport speedprof\n\n"
        'speedprof.apply("dali-loading")\n'.replace("\\\n", "\n")
    )
    assert made.why == "the script then needs speedprof where it runs"


def test_values_stand_in_it_where_they_are_named() -> None:
    assert 'apply("cache-samples=64")' in written(SCRIPT, "cache-samples", budget_mb=64)
    assert 'apply("cache-samples")' in written(SCRIPT, "cache-samples")


def test_several_share_one_call() -> None:
    both = [order("no-sync"), order("cache-samples", budget_mb=64)]
    changed, made = rewrite(SCRIPT, both)
    assert changed.count("speedprof.apply(") == 1
    assert 'speedprof.apply("cache-samples=64,no-sync")' in changed
    assert [one.state for one in made] == ["written", "written"]


def test_a_call_that_is_there_is_added_to_and_its_own_values_stay() -> None:
    own = SCRIPT + 'import speedprof as sp\nsp.apply("cache-samples=32")\n'.replace("\\\n", "\n")
    assert 'sp.apply("cache-samples=32,no-sync")' in written(own, "no-sync")
    unchanged(own, "cache-samples")
    assert 'sp.apply("cache-samples=64")' in written(own, "cache-samples", budget_mb=64)


def test_a_call_that_may_not_be_reached_is_no_place_for_more() -> None:
    own = "import speedprof\nif fast:\n    speedprof.apply('no-sync')\n".replace("\\\n", "\n")
    assert refused(own, "dali-loading") == (
        "line 3 calls speedprof.apply() where it may not be reached"
    )


def test_a_plan_that_the_script_reads_stays_beside_the_call() -> None:
    own = SCRIPT + 'import speedprof\nspeedprof.apply("fast.toml")\n'.replace("\\\n", "\n")
    changed = written(own, "dali-loading")
    assert 'speedprof.apply("fast.toml")' in changed
    assert 'speedprof.apply("dali-loading")' in changed


def test_what_a_plan_asks_for_is_called_where_it_cannot_be_written() -> None:
    own = SCRIPT + "if fast:\n    torch.set_num_threads(1)\n"
    plan = [order("fewer-threads", threads=1), order("no-sync")]
    source = Source(path=Path("train.py"), content=own.encode(), text=own, encoding="utf-8")
    found = Targets(files=(Target(source=source),))
    refusing = propose(found, plan)
    assert [one.state for one in refusing.outcomes] == ["refused", "written"]
    calling = propose(found, plan, calls=True)
    assert [one.state for one in calling.outcomes] == ["written", "written"]
    assert 'speedprof.apply("no-sync,fewer-threads=1")' in calling.changes[0].text
    assert calling.outcomes[0].why.startswith("as a call, because line 6 sets it already")


def test_what_no_call_can_say_stays_refused() -> None:
    own = "import torch\nloader = make(torch)\n"
    source = Source(path=Path("train.py"), content=own.encode(), text=own, encoding="utf-8")
    found = Targets(files=(Target(source=source),))
    plan = [order("loader-workers", num_workers=2, persistent_workers=False)]
    made = propose(found, plan, calls=True)
    assert made.changes == ()
    assert made.outcomes[0].state == "refused"
