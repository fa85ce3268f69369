"""Epochs that repeat one order: seen, said beside the bottleneck, and mended."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import in_force
import pytest
import runs
from remedies_loading import sharded_alike

from speedprof.advisor.judgement import judge
from speedprof.mitigations.applied.process import Process
from speedprof.mitigations.catalogue import advise
from speedprof.reports import to_html, to_json, to_text, view
from speedprof.tests.in_process import facts, measuring

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

SAMPLES = 24
applied = partial(in_force.applied, name="set-epoch")


def loader(*, shuffle: bool = True, in_batches: bool = False) -> Any:
    """Return a loader of the first of two ranks, and its sampler."""
    from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, TensorDataset

    data = TensorDataset(torch.arange(float(SAMPLES)).reshape(-1, 1))
    sampler = DistributedSampler(data, num_replicas=2, rank=0, shuffle=shuffle, seed=3)
    if in_batches:
        return DataLoader(data, batch_sampler=BatchSampler(sampler, 3, drop_last=False)), sampler
    return DataLoader(data, batch_size=3, sampler=sampler), sampler


def passes(built: Any, count: int, *, peeks: bool = False) -> list[list[float]]:
    """Return what each epoch of a training is given; `peeks`: this rank looks at batches alone."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    seen: list[list[float]] = []
    for _ in range(count):
        seen.append([])
        for _ in range(peeks):
            next(iter(built))
        for (batch,) in built:
            seen[-1] += batch.flatten().tolist()
            for _ in range(peeks):
                list(built)
            optimizer.step()
            for _ in range(peeks):
                next(iter(built))
    return seen


def train(built: Any, epochs: int, *, sampler: Any = None) -> None:
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        if sampler is not None:
            sampler.set_epoch(epoch)
        for (batch,) in built:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()


# -- mended


@pytest.mark.parametrize("in_batches", [False, True])
def test_each_epoch_has_the_order_that_set_epoch_would_give_it(
    process: Process, in_batches: bool
) -> None:
    built, sampler = loader(in_batches=in_batches)
    meant = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        meant += passes(built, 1)
    again, _ = loader(in_batches=in_batches)
    assert passes(again, 2)[0] == passes(again, 1)[0]  # without the remedy
    one = applied(process)
    mended, _ = loader(in_batches=in_batches)
    assert passes(mended, 3) == meant
    assert one.effects == 2
    assert meant[0] != meant[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_rank_that_looks_at_batches_alone_stays_in_its_epoch(
    process: Process, workers: int
) -> None:
    from torch.utils.data import DataLoader

    process.apply([{"name": "set-epoch"}])
    others = passes(loader()[0], 3)
    built, sampler = loader()
    built = DataLoader(built.dataset, 3, sampler=sampler, num_workers=workers)
    assert passes(built, 3, peeks=True) == others


def test_a_script_that_takes_batches_by_hand_goes_on_to_the_next_epoch(process: Process) -> None:
    applied(process)
    meant = passes(loader()[0], 3)
    built, _ = loader()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    passing, seen = iter(built), []
    for _ in range(3 * len(built)):
        try:
            (batch,) = next(passing)
        except StopIteration:
            passing = iter(built)
            (batch,) = next(passing)
        seen += batch.flatten().tolist()
        optimizer.step()
    assert seen == [one for epoch in meant for one in epoch]


def test_the_first_epoch_stays_as_it_is(process: Process) -> None:
    bare = passes(loader()[0], 1)
    one = applied(process)
    assert passes(loader()[0], 1) == bare
    assert one.effects == 0


def test_a_script_that_calls_set_epoch_is_left_alone(process: Process) -> None:
    one = applied(process)
    built, sampler = loader()
    sampler.set_epoch(5)
    first = passes(built, 1)
    assert passes(built, 1) == first
    assert sampler.epoch == 5
    assert one.effects == 0
    assert one.notes == ["the script calls set_epoch() itself"]


def test_a_sampler_that_does_not_shuffle_is_left_alone(process: Process) -> None:
    one = applied(process)
    built, sampler = loader(shuffle=False)
    passes(built, 3)
    assert sampler.epoch == 0
    assert one.effects == 0


def test_after_undoing_each_epoch_is_alike_again(process: Process) -> None:
    applied(process)
    process.undo()
    built, sampler = loader()
    first, second = passes(built, 2)
    assert first == second
    assert sampler.epoch == 0


# -- seen


def test_epochs_of_one_order_are_counted(tmp_path: Path) -> None:
    with measuring(tmp_path, windows=False):
        train(loader()[0], 4)
    assert facts(tmp_path, "loader_use")[-1]["repeated_orders"] == 3


def test_a_new_loader_for_each_epoch_repeats_the_order_as_well(tmp_path: Path) -> None:
    with measuring(tmp_path, windows=False):
        for _ in range(3):
            train(loader()[0], 1)
    assert facts(tmp_path, "loader_use")[-1]["repeated_orders"] == 2


def test_set_epoch_is_seen(tmp_path: Path) -> None:
    with measuring(tmp_path, windows=False):
        built, sampler = loader()
        train(built, 4, sampler=sampler)
    assert facts(tmp_path, "loader_use")[-1]["repeated_orders"] == 0


def test_a_look_at_one_batch_is_no_epoch(tmp_path: Path) -> None:
    with measuring(tmp_path, windows=False):
        built, sampler = loader()
        next(iter(built))
        train(built, 2, sampler=sampler)
    assert facts(tmp_path, "loader_use")[-1]["repeated_orders"] == 0


def test_other_samplers_are_not_asked(tmp_path: Path) -> None:
    with measuring(tmp_path, windows=False):
        data = torch.utils.data.TensorDataset(torch.randn(8, 1))
        train(torch.utils.data.DataLoader(data, batch_size=2, shuffle=True), 3)
        train(loader(shuffle=False)[0], 3)
    assert [one["repeated_orders"] for one in facts(tmp_path, "loader_use")[-2:]] == [None, None]


def test_with_the_remedy_in_force_nothing_is_left_to_say(process: Process, tmp_path: Path) -> None:
    one = applied(process)  # below the probes, as in a run
    with measuring(tmp_path, windows=False):
        train(loader()[0], 4)
    assert facts(tmp_path, "loader_use")[-1]["repeated_orders"] == 0
    assert one.effects == 3


# -- said


def test_a_repeated_order_is_said_with_its_line_beside_the_bottleneck() -> None:
    run = sharded_alike(3)
    told = judge(run)
    (remark,) = told.remarks
    assert remark.sentence == (
        "the DistributedSampler of the loader at train.py:41 gave the same order in 4 epochs: "
        "call sampler.set_epoch(epoch) before each"
    )
    assert (remark.where, remark.remedy) == ("train.py:41", "set-epoch")
    silent = judge(sharded_alike(0))
    assert (told.verdict, told.findings) == (silent.verdict, silent.findings)
    assert [one.mitigation.name for one in advise(run, told)] == [
        one.mitigation.name for one in advise(run, silent)
    ]


@pytest.mark.parametrize("repeated", [None, 0, 1])
def test_a_script_that_sets_some_epochs_has_its_reasons(repeated: int | None) -> None:
    assert judge(sharded_alike(repeated)).remarks == ()


def test_a_loader_of_an_evaluation_may_repeat_its_order() -> None:
    seen = runs.loader(repeated_orders=3, iterations=4, role="evaluation")
    assert judge(runs.run(loaders=[seen])).remarks == ()


def test_reports_say_it_without_a_gain() -> None:
    shown = view.of(sharded_alike(3))
    text = " ".join(to_text.render(shown, width=100).split())
    assert "The DistributedSampler of the loader at train.py:41 gave the same order" in text
    page = to_html.render(shown)
    assert "Beside its speed" in page
    assert "speedprof run --apply set-epoch" in page
    report = json.loads(to_json.render(shown))
    assert [one["remedy"] for one in report["remarks"]] == ["set-epoch"]
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(report, to_json.schema())
    assert "remarks" not in json.loads(to_json.render(view.of(sharded_alike(0))))


def test_what_accelerate_does_before_each_epoch_is_seen(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate.data_loader")
    with measuring(tmp_path, windows=False):
        built, sampler = loader()
        prepared = accelerate.DataLoaderShard(built.dataset, batch_size=3, sampler=sampler)
        for epoch in range(3):
            prepared.set_epoch(epoch)
            train(prepared, 1)
    told = [one["repeated_orders"] for one in facts(tmp_path, "loader_use")]
    assert set(told) <= {0, None}
