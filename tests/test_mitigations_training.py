"""Remedies that change the training: what is predicted, what is not, and what comes first."""

from __future__ import annotations

import ast
from collections.abc import Callable
from statistics import mean

import pytest
import runs
from case_runs import DDP, talking
from remedies_training import APPLIES, HEAVY, batch, blind, late, reading, seeing
from remedy_cases import APPLIES as EVERY
from test_mitigations import assess

from speedprof.advisor.finding import Finding
from speedprof.advisor.judgement import judge
from speedprof.mitigations import communication, training
from speedprof.mitigations.catalogue import MOST_CHANGING, advise, find
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training import colout, progressive_resizing, sequence_warmup
from speedprof.mitigations.training.kinds import image_side, model_share, sequence_length
from speedprof.profiler.run import Run

FEWER = [
    "weight-averaging", "shorter-schedule", "warm-start", "quality-buyers", "early-stopping",
    "deduplication", "data-pruning", "progressive-growth", "mixture-of-experts", "data-echoing",
    "fuller-device", "growing-batch", "importance-sampling", "curriculum", "sharpness-aware",
    "other-optimizer", "sparse-weights",
]  # fmt: skip
WRITTEN = [
    remedy.name
    for remedy in (*training.REMEDIES, *communication.REMEDIES)
    if remedy.how == "patch"
]


def fit(name: str, run: Run) -> Fit:
    answer = assess(name, run)
    assert isinstance(answer, Fit), answer
    return answer


def names(run: Run) -> list[str]:
    return [one.mitigation.name for one in advise(run, judge(run))]


@pytest.mark.parametrize("name", FEWER)
def test_how_many_steps_fewer_is_never_predicted(name: str) -> None:
    told = fit(name, APPLIES[name]())
    assert told.gain is None
    assert "200 steps" in told.reason  # too few of them to tell


@pytest.mark.parametrize("name", sorted(set(APPLIES) - set(FEWER)))
def test_shorter_steps_are_predicted_in_a_narrow_range(name: str) -> None:
    gain = fit(name, APPLIES[name]()).gain
    assert gain is not None
    assert 1.0 <= gain.low <= gain.high <= 2.5 * gain.low


@pytest.mark.parametrize("remedy", training.REMEDIES, ids=lambda remedy: remedy.name)
def test_each_of_them_says_that_it_changes_the_training(remedy: object) -> None:
    assert remedy.changes_training  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", WRITTEN)
def test_lines_to_write_are_python(name: str) -> None:
    text = fit(name, EVERY[name]()).by_hand
    closed = text + "\n    pass" if text.rstrip().endswith(":") else text
    if "break" in text:
        closed = "while True:\n" + "\n".join("    " + line for line in text.splitlines())
    if "RandomResizedCrop" not in text:  # an entry of a list
        ast.parse(closed)


def test_growing_images_compute_half_of_the_pixels() -> None:
    scope: dict[str, Callable[[float], float]] = {}
    exec(progressive_resizing.BY_HAND.split("\n\n")[0], scope)
    scale = scope["scale"]
    assert (scale(0.0), scale(0.5), scale(0.8), scale(1.0)) == (0.5, 0.5, 1.0, 1.0)
    pixels = mean(scale(done / 1000) ** 2 for done in range(1000))
    assert pixels == pytest.approx(1.0 / progressive_resizing.FASTER[1], abs=0.005)


def test_dropped_rows_and_columns_leave_72_percent_of_the_pixels() -> None:
    torch = pytest.importorskip("torch")
    scope = {"torch": torch, "images": torch.rand(2, 3, 200, 100)}
    exec(colout.BY_HAND, scope)
    assert tuple(scope["images"].shape) == (2, 3, 170, 85)
    assert pytest.approx(200 * 100 / (170 * 85)) == colout.FASTER[1]


@pytest.mark.parametrize(("step", "length"), [(0, 8), (150, 512), (299, 1016), (300, 1024)])
def test_sequences_grow_over_the_first_third(step: int, length: int) -> None:
    torch = pytest.importorskip("torch")
    scope = {"tokens": torch.zeros(2, 1024), "step": step, "total_steps": 1000}
    exec(sequence_warmup.BY_HAND, scope)
    assert scope["tokens"].shape[1] == length


@pytest.mark.parametrize(("side", "small"), [(224, 176), (448, 352), (96, 72)])
def test_a_lower_resolution_is_in_the_published_proportion(side: int, small: int) -> None:
    text = fit("lower-resolution", seeing(side)).by_hand
    assert f"RandomResizedCrop({small})" in text
    assert f"evaluate at {side}" in text


def test_convolutions_tell_of_images_where_no_batch_was_recorded() -> None:
    told = fit("lower-resolution", seeing(batch=None))
    assert "RandomResizedCrop(176)" in told.by_hand


@pytest.mark.parametrize(
    ("shape", "side"),
    [([64, 3, 224, 256], 224), ([64, 224, 256, 3], 224), ([64, 10], None), ([4, 7, 1, 1], None)],
)
def test_the_side_of_images_is_found_in_either_layout(shape: list[int], side: int | None) -> None:
    assert image_side(seeing(batch=batch(shape))) == side


@pytest.mark.parametrize(
    ("shape", "dtype", "length"),
    [
        ([8, 512], "int64", 512),
        ([8, 512], "torch.int32", 512),
        ([8, 512], "float32", None),
        ([512], "int64", None),
        ([8, 4], "int64", None),
    ],
)
def test_sequences_are_rows_of_whole_numbers(
    shape: list[int], dtype: str, length: int | None
) -> None:
    assert sequence_length(reading(batch=batch(shape, dtype=dtype))) == length


def test_the_optimizers_time_does_not_shrink_with_the_images() -> None:
    whole = seeing(compute=runs.compute(kinds={"convolution": 9.0}, optimizer_ms=0.0))
    part = seeing(compute=runs.compute(kinds={"convolution": 9.0}, optimizer_ms=45.0))
    assert model_share(whole) == pytest.approx(0.95)
    assert model_share(part) == pytest.approx(0.50)
    wide, narrow = fit("colout", whole).gain, fit("colout", part).gain
    assert wide is not None
    assert narrow is not None
    assert narrow.high < wide.high


def test_steps_get_no_shorter_than_workers_make_batches() -> None:
    busy = seeing(
        loaders=[runs.preparing(2, 170.0)], machines=[runs.machine(16, gpus=["NVIDIA H100"])]
    )
    told = fit("progressive-resizing", busy)
    assert told.gain is not None
    assert told.gain.high == pytest.approx(100.0 / 85.0)
    assert "workers deliver a step's batches in 85.0 ms" in told.gain.model


def test_workers_that_are_busy_all_the_time_leave_nothing_to_gain() -> None:
    told = assess("progressive-resizing", seeing(loaders=[runs.preparing(2, 199.0)],
                  machines=[runs.machine(16, gpus=["NVIDIA H100"])]))  # fmt: skip
    assert isinstance(told, Misfit)
    assert "workers deliver" in told.reason


def test_attention_alone_gets_shorter_with_shorter_sequences() -> None:
    told = fit("alibi", reading(2048))
    assert "attention over 512 instead of 2048 tokens" in told.reason
    assert told.gain is not None
    assert told.gain.high == pytest.approx(1.0 / (1.0 - 0.285 * 0.75))


def test_repeated_batches_come_as_often_as_the_device_takes_them() -> None:
    told = fit("data-echoing", late())
    assert told.parameters == {"times": 2}
    assert "an update every 50.0 ms" in told.reason
    assert "times=2" in told.by_hand


def test_the_costly_augmentations_are_named_with_what_they_cost() -> None:
    told = fit("lighter-augmentation", late())
    assert "RandAugment (0.4 ms a sample)" in told.reason
    assert "ToTensor" not in told.by_hand
    part = 64 * HEAVY[0].ms_per_sample / 190.0
    assert told.gain is not None
    assert told.gain.high == pytest.approx(1.0 / (1.0 - 0.62 * part))


def test_workers_come_before_any_change_of_the_training() -> None:
    alone = late(loaders=[runs.preparing(0, 60.0, transforms=HEAVY)])
    assert "loader-workers" in names(alone)
    assert not {"data-echoing", "lighter-augmentation", "fuller-device"} & set(names(alone))


def test_less_computing_is_not_advised_on_a_balanced_step() -> None:
    balanced = seeing(phases=runs.phases(host=0.15, outside=0.15))
    assert judge(balanced).verdict.finding is None
    ours = {remedy.name for remedy in training.REMEDIES}
    assert not ours & set(names(balanced))


@pytest.mark.parametrize("make", [seeing, reading, blind])
def test_few_of_them_are_advised_and_after_all_others(make: Callable[[], Run]) -> None:
    run = make()
    given = advise(run, judge(run))
    changing = [one.mitigation.changes_training for one in given]
    assert sum(changing) <= MOST_CHANGING
    assert changing == sorted(changing)


def test_what_can_be_predicted_is_advised_before_what_cannot() -> None:
    given = [name for name in names(seeing()) if find(name).changes_training]
    assert given == ["progressive-resizing", "lower-resolution", "colout"]


def test_frozen_layers_exchange_fewer_gradients() -> None:
    told = Finding(
        rule="communication-transfer", phase="communication", cause="transfer", share=0.4,
        low=0.38, high=0.42, evidence="it was seen",
    )  # fmt: skip
    answer = find("layer-freezing").assess(talking(**DDP), told)
    assert isinstance(answer, Fit)
    assert answer.gain is not None
    assert answer.gain.high == pytest.approx(1.0 / (1.0 - 0.42 / 3.0))
