"""A loader that is built again is one loader; two that one line builds are two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from speedprof.profiler.loader_facts import MOST_ALIKE
from speedprof.tests.in_process import facts, measuring
from speedprof.tests.small_models import layers, plain

# Where a trainer builds its loaders: one line of its own, as Hugging Face's does
TRAINER = """
def build(dataset):
    return DataLoader(dataset, batch_size=4)
def for_training(dataset):
    return build(dataset)
def for_evaluation(dataset):
    return build(dataset)
def fit(training, evaluation, rounds, train, evaluate):
    loader = for_training(training)
    for _ in range(rounds):
        train(loader)
        evaluate(for_evaluation(evaluation()))
"""


def rows(count: int = 12) -> Any:
    return torch.randn(count, 8)


def a_library() -> dict[str, Any]:
    names: dict[str, Any] = {"DataLoader": DataLoader, "__name__": "trainer.loop"}
    exec(compile(TRAINER, "/v/lib/python3.11/site-packages/trainer.py", "exec"), names)
    return names


def trained(folder: Path, training: Callable[[Callable[..., None]], None]) -> list[dict[str, Any]]:
    """Run a training that is handed `train(loader)`; return the last use of each loader."""
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(loader: Iterable[Any]) -> None:
        for batch in loader:
            plain(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()

    with measuring(folder, windows=False):
        training(train)
    assert facts(folder, "note") == []
    uses = {fact["number"]: fact for fact in facts(folder, "loader_use")}
    return [uses[number] for number in sorted(uses)]


def evaluate(loader: Iterable[Any]) -> None:
    with torch.no_grad():
        for batch in loader:
            batch.sum()


def told(uses: Sequence[dict[str, Any]]) -> list[tuple[str, int, int]]:
    return [(use["role"], use["iterations"], use["batches"]) for use in uses]


def test_a_loader_that_is_built_again_for_every_epoch_is_one(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        dataset = rows()
        for _ in range(4):
            train(DataLoader(dataset, batch_size=4))

    assert told(trained(tmp_path, training)) == [("training", 4, 12)]


def test_so_is_one_whose_data_set_is_made_again(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        for _ in range(4):
            loader = DataLoader(rows(), batch_size=4)
            train(loader)

    assert told(trained(tmp_path, training)) == [("training", 4, 12)]


def test_a_line_that_builds_a_loader_for_each_data_set_builds_several(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        loaders = [DataLoader(dataset, batch_size=4) for dataset in (rows(), rows(8))]
        for _ in range(3):
            train(loaders[0])
            evaluate(loaders[1])

    assert told(trained(tmp_path, training)) == [("training", 3, 9), ("evaluation", 3, 6)]


def test_a_trainers_loaders_of_training_and_evaluation_are_two(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        held_out = rows(8)
        a_library()["fit"](rows(), lambda: held_out, 3, train, evaluate)

    assert told(trained(tmp_path, training)) == [("training", 3, 9), ("evaluation", 3, 6)]


def test_who_builds_a_loader_is_told(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        train(DataLoader(rows(), batch_size=4))
        train(a_library()["for_training"](rows()))

    trained(tmp_path, training)
    assert [one["library"] for one in facts(tmp_path, "loader")] == [None, "trainer"]


def test_what_a_library_makes_of_the_scripts_loader_is_that_one(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "accelerate.data_loader", "DataLoader": DataLoader}
    source = "def anew(own): return DataLoader(own.dataset, batch_size=own.batch_size)"
    exec(compile(source, "/v/lib/python3.11/site-packages/accelerate/loader.py", "exec"), names)

    def training(train: Callable[..., None]) -> None:
        for own in (
            DataLoader(rows(), batch_size=4, num_workers=0),
            DataLoader(list(rows()), batch_size=4),  # which data set it was cannot be remembered
        ):
            train(names["anew"](own))

    trained(tmp_path, training)
    told = facts(tmp_path, "loader")
    assert [one["library"] for one in told] == [None, "accelerate"]
    assert told[0]["explicit"] == ["batch_size", "num_workers"]


def test_even_where_the_evaluations_data_set_is_another_each_time(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        a_library()["fit"](rows(), lambda: rows(8), 3, train, evaluate)

    assert told(trained(tmp_path, training)) == [("training", 3, 9), ("evaluation", 3, 6)]


def test_an_evaluation_over_the_loader_of_training_leaves_it_that(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        loader = DataLoader(rows(), batch_size=4)
        train(loader)
        for _ in range(5):
            evaluate(loader)

    assert told(trained(tmp_path, training)) == [("training", 6, 18)]


def test_of_a_long_list_of_loaders_the_first_few_are_told_apart(tmp_path: Path) -> None:
    def training(train: Callable[..., None]) -> None:
        loaders = [DataLoader(rows(), batch_size=4) for _ in range(MOST_ALIKE + 5)]
        for loader in loaders:
            train(loader)

    uses = trained(tmp_path, training)
    assert len(uses) == MOST_ALIKE
    assert uses[-1]["iterations"] == 6
