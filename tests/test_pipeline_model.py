"""A step as one pipeline: several remedies together, and what decides next."""

from __future__ import annotations

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as some

from speedprof.advisor.finding import CAUSES, Finding
from speedprof.mitigations import facts
from speedprof.mitigations.catalogue import CATALOGUE, Advice
from speedprof.mitigations.mitigation import Fit, Gain
from speedprof.mitigations.pipeline_model import after, plan_gain
from speedprof.mitigations.pipeline_parts import KERNELS, PRODUCTS, STREAMS, parts_of, without
from speedprof.profiler.roofs.roofs import Level, Roofs, Storage
from speedprof.profiler.run import PHASES, Run

BY_NAME = {remedy.name: remedy for remedy in CATALOGUE}
PLAIN = "rarer-work"  # a remedy without kernels of its own, where only the finding counts


def advice(
    phase: str,
    gain: tuple[float, float] | None,
    *,
    cause: str | None = None,
    share: float = 0.3,
    name: str = PLAIN,
    rule: str = "",
    **parameters: object,
) -> Advice:
    """Return a remedy for a finding of this phase that predicts this gain."""
    finding = Finding(
        rule=rule or f"{phase}-{cause}", phase=phase, cause=cause, share=share, low=share,
        high=share, evidence="",
    )  # fmt: skip
    predicted = None if gain is None else Gain(low=gain[0], high=gain[1], model="as told")
    fit = Fit(reason="", gain=predicted, parameters=parameters)
    return Advice(mitigation=BY_NAME[name], finding=finding, fit=fit)


def without_all_of(phase: str, share: float, **told: object) -> Advice:
    """Return a remedy that removes this share of the step, surely."""
    gain = 1.0 / (1.0 - share)
    return advice(phase, (gain, gain), share=share, **told)  # type: ignore[arg-type]


def workers(gain: tuple[float, float], count: int = 2) -> Advice:
    named = {"name": "loader-workers", "cause": "cpu_preparation", "num_workers": count}
    return advice("data_loading", gain, **named)  # type: ignore[arg-type]


def ratio(run: Run, *wanted: Advice) -> float:
    gain = plan_gain(run, wanted)
    assert gain is not None
    assert gain.low == pytest.approx(gain.high)
    return gain.high


def loading(share: float = 0.5, **facts: object) -> Run:
    return runs.run({"data_loading": share}, loaders=[runs.preparing(cpu_ms=100 * share)], **facts)


def test_a_plan_of_one_remedy_is_worth_what_it_predicts() -> None:
    gain = after(runs.run({"host": 0.4}), advice("host", (1.2, 1.5), share=0.4))
    assert gain is not None
    assert (gain.low, gain.high) == (pytest.approx(1.2), pytest.approx(1.5))


def test_workers_alone_are_worth_what_they_predict() -> None:
    gain = after(loading(0.7), workers((1.3, 1.9)))
    assert gain is not None
    assert (gain.low, gain.high) == (pytest.approx(1.3), pytest.approx(1.9))


def test_remedies_of_different_phases_free_both() -> None:
    run = runs.run({"host": 0.25, "outside": 0.25})
    assert ratio(run, without_all_of("host", 0.25), without_all_of("outside", 0.25)) == 2.0


def test_two_remedies_for_one_finding_act_one_after_the_other() -> None:
    """Each leaves half of 40 ms; together they leave a quarter, not nothing."""
    half = advice("host", (1.25, 1.25), share=0.4)
    assert ratio(runs.run({"host": 0.4}), half, half) == pytest.approx(100 / 70)


def test_remedies_for_different_findings_of_a_phase_do_not_meet() -> None:
    run = runs.run({"host": 0.4})
    python = without_all_of("host", 0.2, cause="python")
    waiting = without_all_of("host", 0.2, cause="synchronisation")
    assert ratio(run, python, waiting) == pytest.approx(100 / 60)


def test_findings_that_overlap_are_one_part() -> None:
    run = runs.run({"host": 0.4})
    first = without_all_of("host", 0.3, cause="python")
    second = without_all_of("host", 0.3, cause="launch")
    assert ratio(run, first, second) == pytest.approx(100 / (60 + 40 / 16))


def test_remedies_for_different_kernels_do_not_meet() -> None:
    kinds = {"matmul": 50.0, "optimizer": 50.0}
    run = runs.run(compute=runs.compute(kinds=kinds))
    products = advice("compute", (1 / 0.75, 1 / 0.75), name="tf32", share=1.0, rule="a")
    updates = advice("compute", (1 / 0.75, 1 / 0.75), name="fused-optimizer", share=1.0, rule="a")
    assert ratio(run, products, updates) == pytest.approx(2.0)
    assert ratio(run, products, products) == pytest.approx(1 / 0.625)


def test_work_hidden_behind_the_rest_comes_to_light() -> None:
    """Two workers need 50 ms a step; without 40 ms of host the step waits for them."""
    loader = runs.preparing(2, cpu_ms=100.0)
    run = runs.run({"host": 0.4}, loaders=[loader], machines=[runs.machine(16)])
    gain = after(run, without_all_of("host", 0.4))
    assert gain is not None
    assert gain.high == pytest.approx(1 / 0.6)  # 50 ms of making fit behind 60
    more = runs.run({"host": 0.6}, loaders=[loader], machines=[runs.machine(16)])
    gain = after(more, without_all_of("host", 0.6))
    assert gain is not None
    assert gain.high == pytest.approx(2.0)  # not 2.5: 50 ms of making beside 40
    assert gain.phases["data_loading"][0] == pytest.approx(10.0)


def test_behind_workers_that_are_never_idle_a_shorter_host_gains_nothing() -> None:
    run = runs.run({"data_loading": 0.4, "host": 0.3}, loaders=[runs.preparing(2, cpu_ms=200.0)])
    assert ratio(run, without_all_of("host", 0.3)) == pytest.approx(1.0)


def test_cheaper_batches_make_workers_faster_too() -> None:
    cached = advice("data_loading", (1.25, 1.25), cause="cpu_preparation", name="cache-samples")
    run = loading(0.8, machines=[runs.machine(16)])
    assert ratio(run, workers((2.0, 2.0)), cached) > 2.0


def test_workers_and_cheaper_batches_leave_at_least_the_rest_of_the_step() -> None:
    cached = advice("data_loading", (5.0, 5.0), cause="cpu_preparation", name="cache-samples")
    assert ratio(loading(0.8), workers((4.0, 4.0)), cached) <= 5.0 + 1e-9


def test_what_leads_next_is_the_largest_phase_that_is_left() -> None:
    gain = after(loading(0.6), workers((2.0, 2.3)))
    assert gain is not None
    assert gain.next_bottleneck == ("compute",)
    assert 0.8 < gain.next_share[0] <= gain.next_share[1] <= 1.0


def test_two_phases_may_lead_next() -> None:
    run = runs.run({"outside": 0.6}, loaders=[])
    gain = after(run, advice("outside", (1.1, 2.4), share=0.6))
    assert gain is not None
    assert gain.next_bottleneck == ("compute", "outside")


def test_without_phases_nothing_is_predicted() -> None:
    assert after(runs.run(phases=None), advice("host", (1.2, 1.5))) is None


def test_a_remedy_without_a_gain_has_no_place_in_a_plan() -> None:
    assert plan_gain(runs.run({"host": 0.4}), [advice("host", None)]) is None


def test_no_remedies_change_nothing() -> None:
    assert ratio(runs.run({"host": 0.4})) == pytest.approx(1.0)


def test_the_kernels_that_remedies_act_on_are_kinds_that_are_measured() -> None:
    kinds = {*PRODUCTS, *STREAMS, "optimizer", "copy"}
    assert {kind for acted in KERNELS.values() for kind in acted} <= kinds


def test_every_remedy_that_acts_on_kernels_is_in_the_catalogue() -> None:
    assert KERNELS.keys() <= BY_NAME.keys()


def test_a_remedy_that_frees_more_than_its_part_acts_on_the_whole_phase() -> None:
    parts = {"python": 10.0, "": 30.0}
    assert without(parts, ["python"], 20.0, of=parts) == {"python": 5.0, "": 15.0}


# a few phases of a step, and remedies for some of them
shares = some.lists(some.floats(0.01, 1.0), min_size=6, max_size=6).map(
    lambda drawn: {name: one / sum(drawn) for name, one in zip(PHASES, drawn, strict=True)}
)
gains = some.tuples(some.floats(1.0, 3.0), some.floats(1.0, 3.0)).map(
    lambda pair: (min(pair), max(pair))
)
made = some.builds(
    lambda phase, gain, cause: advice(
        phase, gain, cause=CAUSES[phase][cause % len(CAUSES[phase])], share=0.05
    ),
    some.sampled_from(PHASES),
    gains,
    some.integers(0, 3),
)
loaders = some.sampled_from(
    [[], [runs.preparing()], [runs.preparing(2, cpu_ms=200.0)], [runs.fetching(4)]]
)


@given(shares, loaders, some.lists(made, max_size=5))
def test_a_plan_is_an_ordered_range_of_whole_steps(
    drawn: dict[str, float], loader: list[object], plan: list[Advice]
) -> None:
    run = runs.run(drawn, loaders=loader)
    gain = plan_gain(run, plan)
    assert gain is not None
    assert 0.0 < gain.low <= gain.high
    ends = [sum(gain.phases[name][end] for name in PHASES) for end in (0, 1)]
    assert sorted(ends) == pytest.approx([100.0 / gain.high, 100.0 / gain.low], abs=0.2)
    assert all(end >= -1e-9 for pair in gain.phases.values() for end in pair)


@given(shares, loaders, some.lists(made, max_size=4), made)
def test_one_remedy_more_never_makes_a_plan_worse(
    drawn: dict[str, float], loader: list[object], plan: list[Advice], more: Advice
) -> None:
    run = runs.run(drawn, loaders=loader)
    fewer, all_of_them = plan_gain(run, plan), plan_gain(run, [*plan, more])
    assert fewer is not None
    assert all_of_them is not None
    assert all_of_them.high >= fewer.high - 1e-9
    assert all_of_them.low >= fewer.low - 1e-9


@given(shares, loaders, some.lists(made, max_size=5))
def test_the_order_of_a_plan_does_not_change_what_it_gains(
    drawn: dict[str, float], loader: list[object], plan: list[Advice]
) -> None:
    run = runs.run(drawn, loaders=loader)
    forth, back = plan_gain(run, plan), plan_gain(run, plan[::-1])
    assert forth is not None
    assert back is not None
    assert (forth.low, forth.high) == pytest.approx((back.low, back.high))


@given(shares, loaders, made)
def test_one_remedy_never_gains_more_than_it_predicts(
    drawn: dict[str, float], loader: list[object], one: Advice
) -> None:
    gain, told = after(runs.run(drawn, loaders=loader), one), one.fit.gain
    assert gain is not None
    assert told is not None
    assert gain.high <= told.high + 1e-9


@given(shares)
def test_parts_add_up_to_their_phase(drawn: dict[str, float]) -> None:
    run = runs.run(drawn, compute=runs.compute(kinds={"matmul": 3.0, "copy": 1.0}))
    found = [advice("host", (1.1, 1.2), share=drawn["host"] / 2)]
    for name, parts in parts_of(run, found).items():
        assert sum(parts.values()) == pytest.approx(100.0 * drawn[name])


def test_what_the_storage_can_give_limits_every_number_of_workers() -> None:
    """50 MB a batch from a disk of 1 GB/s: 50 ms, however many workers read them."""
    speed = Level(best=1.0, median=1.0, worst=1.0, repeats=1)
    disk = Storage(folder="/", mount="/", sequential_gb_per_s=speed)
    roofs = Roofs(machine="here", node="here", cores=2.0, storage=[disk])
    reading = runs.fetching(4, disk_bytes=5e7)
    pipeline = facts.pipeline(runs.run({"data_loading": 0.8}, roofs=roofs), reading)
    assert pipeline is not None
    assert pipeline.storage_ms == pytest.approx(50.0)
    unknown = facts.pipeline(runs.run({"data_loading": 0.8}), reading)
    assert unknown is not None
    assert unknown.storage_ms == 0.0


def test_what_kept_the_late_rank_kept_the_others_waiting() -> None:
    exchange = runs.communication(late_rank=1, late_rank_phase="host")
    run = runs.run({"host": 0.45, "communication": 0.45}, communication=exchange)
    gain = after(run, advice("host", (5.0, 5.0), share=0.45))
    assert gain is not None
    assert gain.high == pytest.approx(5.0)
    assert gain.phases["communication"][0] == pytest.approx(10.0)
