"""From steps of trials to ceilings: ratios, rates, intervals, and when there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from runs import loader
from runs import run as a_run

from speedprof.profiler import trials
from speedprof.profiler.interpreter import Target
from speedprof.profiler.measured_ceilings import Series, ceiling, rate
from speedprof.profiler.run_whatif import WhatIf, decoded
from speedprof.profiler.whatif import Order, Outcome, Trial, planned
from speedprof.profiler.whatif_results import conclude
from speedprof.reports import to_html, to_json, to_text, view
from speedprof.reports.sections_whatif import sentences


def steps(each_ms: float, *, count: int = 40, noise: float = 0.02, **more: Any) -> Series:
    """Return steps of a trial that take about so long, 8 samples each."""
    draw = np.random.default_rng(int(each_ms * 100) + count)
    ones = np.ones(count)
    return Series(
        wall_ms=each_ms * (1 + noise * draw.standard_normal(count)),
        count=ones,
        samples=8 * ones,
        batches=ones,
        handout_ms=more.pop("handout_ms", 0.0) * ones,
        **more,
    )


def outcome(*made: tuple[str, Series | None], **missing: str) -> Outcome:
    """Return the trials that were made, in their order."""
    order = Order(target=Target(("python", "train.py"), "train"), parent=Path("runs"))
    return Outcome(
        order=order,
        folder=Path("runs/whatif"),
        trials=[
            Trial(
                kind=kind,
                folder=Path(f"runs/whatif/{number}-{kind}"),
                wall_s=3.0,
                series=series,
                problem=None if series is not None else "it was ended at its limit of 60 s",
            )
            for number, (kind, series) in enumerate(made, start=1)
        ],
        missing=missing,
        finished=True,
    )


REPLAYED = {"kind": trials.REPLAYED, "notes": ["only 3 batches were kept"]}


def test_a_step_that_takes_half_as_long_is_a_ceiling_of_two() -> None:
    found = ceiling(trials.REPLAYED, [steps(20), steps(20.1)], [steps(10)])
    assert found.low < found.speedup < found.high
    assert found.speedup == pytest.approx(2, rel=0.03)
    assert found.high / found.low < 1.1


def test_a_machine_that_drifts_widens_the_interval() -> None:
    steady = ceiling(trials.REPLAYED, [steps(20), steps(20)], [steps(10)])
    drifting = ceiling(trials.REPLAYED, [steps(20), steps(30)], [steps(10)])
    assert drifting.low <= 2.05
    assert drifting.high >= 2.95
    assert steady.high < 2.2


def test_the_copies_of_kept_batches_are_taken_off_on_a_cpu_and_stay_on_a_gpu() -> None:
    cpu = conclude(
        outcome(
            (trials.REAL, steps(20)),
            (trials.REPLAYED, steps(12, handout_ms=2.0, fact=REPLAYED)),
        )
    )
    gpu = conclude(
        outcome(
            (trials.REAL, steps(20, device="cuda")),
            (trials.REPLAYED, steps(12, handout_ms=2.0, fact=REPLAYED, device="cuda")),
        )
    )
    assert cpu.ceilings[0].speedup == pytest.approx(2.0, rel=0.03)
    assert gpu.ceilings[0].speedup == pytest.approx(20 / 12, rel=0.03)
    assert cpu.trials[1].handout_ms == gpu.trials[1].handout_ms == 2.0
    assert any("copying the kept batch" in note for note in gpu.trials[1].notes)


def test_an_evaluation_that_falls_into_one_trial_alone_does_not_move_the_ratio() -> None:
    rare = np.zeros(40)
    rare[7] = 4_000.0
    evaluated = steps(10, fact=REPLAYED)
    evaluated = replace(evaluated, wall_ms=evaluated.wall_ms + rare, outside_ms=rare)
    found = conclude(
        outcome(
            (trials.REAL, replace(steps(20), outside_ms=np.zeros(40))),
            (trials.REPLAYED, evaluated),
        )
    )
    assert found.ceilings[0].speedup == pytest.approx(2.0, rel=0.03)


def test_evaluation_in_every_trial_counts_as_it_does_in_training() -> None:
    every = np.full(40, 10.0)
    found = conclude(
        outcome(
            (trials.REAL, replace(steps(30), outside_ms=every)),
            (trials.REPLAYED, replace(steps(20, fact=REPLAYED), outside_ms=every)),
        )
    )
    assert found.ceilings[0].speedup == pytest.approx(1.5, rel=0.03)


def test_rates_are_samples_in_a_second_with_an_interval() -> None:
    found = rate(steps(10), "samples")
    assert found is not None
    assert found.per_s == pytest.approx(800, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.per_s < found.high


def test_batches_are_counted_where_samples_were_not() -> None:
    unseen = replace(steps(10), samples=np.zeros(40))
    found = conclude(outcome((trials.REAL, unseen), (trials.LOADER, unseen)))
    assert found.real is not None
    assert found.real.unit == "batches"
    assert found.real.per_s == pytest.approx(100, rel=0.02)


def test_the_bound_is_the_lesser_of_loader_and_training() -> None:
    found = conclude(
        outcome(
            (trials.REAL, steps(20)),
            (trials.REPLAYED, steps(10, fact=REPLAYED)),
            (trials.REAL, steps(20)),
            (trials.LOADER, steps(18)),
        )
    )
    bound = found.bound()
    assert bound is not None
    assert bound == found.loader
    assert any("together at most" in sentence for sentence in sentences(found))
    assert found.notes == []


def test_a_real_rate_above_its_parts_is_said() -> None:
    found = conclude(
        outcome(
            (trials.REAL, steps(10)),
            (trials.REPLAYED, steps(9, fact=REPLAYED)),
            (trials.LOADER, steps(30)),
        )
    )
    assert any("above what its parts" in note for note in found.notes)


def test_a_trial_that_hung_is_a_result_with_a_reason() -> None:
    found = conclude(outcome((trials.REAL, steps(20)), (trials.REPLAYED, None)))
    assert found.ceilings == []
    assert [(one.kind, one.why) for one in found.missing] == [
        (trials.REPLAYED, "it was ended at its limit of 60 s")
    ]


def test_too_few_steps_make_no_ceiling() -> None:
    few = steps(10, count=5, fact=REPLAYED)
    assert conclude(outcome((trials.REAL, steps(20)), (trials.REPLAYED, few))).ceilings == []


def test_nothing_measured_at_all_is_no_error() -> None:
    found = conclude(outcome((trials.REAL, None)))
    assert found.real is None
    assert [one.kind for one in found.missing] == [trials.REAL]


def test_real_trials_far_apart_are_said() -> None:
    found = conclude(outcome((trials.REAL, steps(10)), (trials.REAL, steps(14))))
    assert any("not steady" in note for note in found.notes)


def test_trials_that_cannot_be_are_left_out_with_their_reason() -> None:
    run = a_run()
    lone = msgspec.structs.replace(run, loaders=[], world_size=2, device="cuda")
    assert planned(lone)[0] == [trials.NO_COMMUNICATION]
    assert "no DataLoader" in planned(lone)[1][trials.LOADER]


def test_a_gpu_and_several_ranks_are_tried_with_everything() -> None:
    run = msgspec.structs.replace(
        a_run(), loaders=[loader(batches=9)], world_size=2, device="cuda"
    )
    assert run.training_loader() is not None
    assert planned(run) == (
        [trials.REPLAYED, trials.ON_DEVICE, trials.NO_COMMUNICATION, trials.LOADER],
        {},
    )


@pytest.fixture
def found() -> WhatIf:
    return conclude(
        outcome(
            (trials.REAL, steps(20)),
            (trials.REPLAYED, steps(10, fact=REPLAYED)),
            (trials.REAL, steps(20)),
            (trials.LOADER, steps(18)),
            **{trials.ON_DEVICE: "no GPU was used"},
        )
    )


def test_what_is_known_survives_a_file(found: WhatIf) -> None:
    text = msgspec.json.encode(found)
    assert decoded(text) == found
    assert decoded(text[:-20]) is None
    assert decoded(text.replace(b'"format":1', b'"format":2')) is None


def test_every_report_shows_the_measured_ceiling(found: WhatIf) -> None:
    seen = view.of(msgspec.structs.replace(a_run(), whatif=found))
    assert "free: 2.0" in to_text.render(seen, width=100)
    page = to_html.render(seen)
    assert "Measured ceilings" in page
    assert "only 3 batches were kept" in page
    report = msgspec.json.decode(to_json.render(seen))
    jsonschema.validate(report, to_json.schema())
    assert report["whatif"]["ceilings"][0]["kind"] == trials.REPLAYED


def test_reports_without_trials_do_not_mention_them() -> None:
    seen = view.of(a_run())
    assert "whatif" not in msgspec.json.decode(to_json.render(seen))
    assert "Measured ceilings" not in to_html.render(seen)
