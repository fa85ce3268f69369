"""What the advice never does: save what is not the limit, or give too much of it at once."""

from __future__ import annotations

import case_runs
import fact_cases
import pytest
import runs
from hypothesis import given
from hypothesis import strategies as some
from remedy_cases import APPLIES

from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import MOST_BALANCED, Advice, advise
from speedprof.profiler.run import PHASES, Run

SAVING = ("compute", "memory")  # phases of remedies, or their folders


def slow_everywhere(shares: dict[str, float], device: str = "cuda") -> Run:
    """Return a run in which everything that can be improved is as bad as it gets."""
    loading = 100.0 * shares.get("data_loading", 0.0)
    host, outside = 100.0 * shares.get("host", 0.0), 100.0 * shares.get("outside", 0.0)
    talking = 100.0 * shares.get("communication", 0.0)
    return case_runs.gpu(
        shares,
        device=device,
        loaders=[runs.preparing(0, max(loading, 1.0))],
        compute=runs.compute(kinds=case_runs.KINDS, operators_per_step=3000.0, optimizer_ms=5.0),
        host=runs.host(launch_ms=host / 2, python_ms=host / 2),
        outside=runs.outside(checkpoint_ms=outside),
        copies=runs.copies(pageable_ms=100.0 * shares.get("host_to_device", 0.0), gb_per_s=4.0),
        communication=runs.communication(transfer_ms=talking, waiting_ms=0.0, bytes=1e8),
        optimizers=[runs.optimizer()],
        models=[fact_cases.parallel()],
        world_size=2,
        batch=fact_cases.batch(padding=0.4),
        backwards_per_step=1.0,
        updates_per_step=1.0,
    )


def phases_of(advice: tuple[Advice, ...]) -> set[str]:
    """Return the phases that the advised remedies treat here, and for which they are made."""
    return {one.finding.phase for one in advice} | {
        phase for one in advice for phase, _ in one.mitigation.treats[:1]
    }


@pytest.mark.parametrize("loading", [0.25, 0.5, 0.9])
def test_no_computing_is_saved_while_batches_are_late(loading: float) -> None:
    run = slow_everywhere({"data_loading": loading, "host": 0.08})
    advice = advise(run, judge(run))
    assert phases_of(advice).isdisjoint(SAVING)
    assert "data_loading" in phases_of(advice)


@pytest.mark.parametrize("loading", [0.06, 0.15, 0.19])
def test_no_loading_is_hastened_where_computing_is_the_limit(loading: float) -> None:
    run = slow_everywhere({"data_loading": loading, "host": 0.05})
    judgement = judge(run)
    assert judgement.verdict.finding is not None
    assert judgement.verdict.finding.phase == "compute"
    advice = advise(run, judgement)
    assert "data_loading" not in phases_of(advice)
    assert "compute" in phases_of(advice)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_balanced_step_gets_two_remedies_at_most(device: str) -> None:
    shares = {"data_loading": 0.18, "host": 0.16, "outside": 0.12, "communication": 0.1}
    run = slow_everywhere(shares, device)
    judgement = judge(run)
    assert judgement.verdict.sentence.startswith("Nothing stands out")
    assert 1 <= len(advise(run, judgement)) <= MOST_BALANCED == 2


def test_a_step_of_nothing_but_computing_well_gets_no_remedy_for_anything_else() -> None:
    run = slow_everywhere({})
    assert phases_of(advise(run, judge(run))) == {"compute"}


@pytest.mark.parametrize("name", APPLIES)
def test_the_cases_of_the_remedies_keep_to_the_limit_of_the_step(name: str) -> None:
    run = APPLIES[name]()
    judgement = judge(run)
    limit, advice = judgement.verdict.finding, advise(run, judgement)
    if limit is None:
        assert len(advice) <= MOST_BALANCED
    elif limit.phase == "compute":
        assert all(one.finding.phase != "data_loading" for one in advice)
    elif limit.phase == "data_loading":
        assert all(one.finding.phase != "compute" for one in advice)


@given(some.lists(some.floats(0.01, 1.0), min_size=6, max_size=6))
def test_whatever_the_shares_one_story_is_told(weights: list[float]) -> None:
    total = sum(weights)
    run = slow_everywhere({n: w / total for n, w in zip(PHASES, weights, strict=True)})
    judgement = judge(run)
    advice = advise(run, judgement)
    limit = judgement.verdict.finding
    phases = {one.finding.phase for one in advice}
    assert limit is not None or len(advice) <= MOST_BALANCED
    assert (
        not {"data_loading", "compute"} <= phases
        or limit is None
        or limit.phase
        not in (
            "data_loading",
            "compute",
        )
    )
    told = {found.rule for found in judgement.findings}
    assert all(found.symptom_of in told for found in judgement.findings if found.symptom_of)
    assert len(told) == len(judgement.findings)
