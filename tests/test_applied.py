"""Remedies in force: what each changes, what it leaves to the script, and that it is undone."""

from __future__ import annotations

import gc
import io
import multiprocessing
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from in_force import applied
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.applied.process import Process

CLOSE = 0.02  # of a loss: bfloat16 has eight bits of mantissa


class Numbers(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index)])


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(12.0))


class Images(nn.Module):
    """A model whose layout, precision and compilation can be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.last = nn.Linear(8 * 6 * 6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.convolution(images)).flatten(1))


def losses(steps: int = 6, *, optimizer: type[torch.optim.Optimizer] = torch.optim.Adam) -> Any:
    """Train from a fixed seed; return the model and its losses."""
    torch.manual_seed(0)
    model = Images()
    update = optimizer(model.parameters(), lr=1e-3)  # type: ignore[call-arg]
    found = []
    for _ in range(steps):
        loss = model(torch.randn(16, 3, 8, 8)).square().mean()
        update.zero_grad()
        loss.backward()
        update.step()
        found.append(loss.item())
    return model, found


def test_workers_make_the_same_batches_in_the_same_order(process: Process) -> None:
    torch.manual_seed(0)
    bare = [batch.flatten().tolist() for batch in DataLoader(Numbers(), 4, shuffle=True)]
    one = applied(process, "loader-workers", num_workers=2)
    torch.manual_seed(0)
    loader = DataLoader(Numbers(), 4, shuffle=True)
    assert [batch.flatten().tolist() for batch in loader] == bare
    assert (loader.num_workers, loader.persistent_workers) == (2, True)
    assert one.effects == 1


def test_the_scripts_own_argument_wins_unless_the_plan_names_it(process: Process) -> None:
    one = applied(process, "loader-workers")
    assert DataLoader(Numbers(), 4, num_workers=0).num_workers == 0
    assert one.notes == [
        "the script gives num_workers of a DataLoader itself; name it in the plan to change it"
    ]
    assert one.effects == 0
    process.undo()
    named = applied(process, "loader-workers", num_workers=1)
    assert DataLoader(Numbers(), 4, num_workers=0).num_workers == 1
    assert named.effects == 1


def test_arguments_by_position_are_the_scripts_own_too(process: Process) -> None:
    applied(process, "loader-workers")
    assert DataLoader(Numbers(), 4, False, None, None, 0).num_workers == 0


def test_an_iterable_dataset_gets_no_workers(process: Process) -> None:
    one = applied(process, "loader-workers", num_workers=2)
    loader = DataLoader(Stream(), 4)
    assert loader.num_workers == 0
    assert len(list(loader)) == 3
    assert "Stream is iterable, and every worker would yield all of it" in one.notes[0]


def test_what_cannot_be_pickled_gets_no_workers_where_they_are_spawned(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "spawn")
    one = applied(process, "loader-workers", num_workers=2)
    dataset = Numbers()
    dataset.key = lambda: 0  # type: ignore[attr-defined]
    assert DataLoader(dataset, 4).num_workers == 0
    assert "Numbers cannot be pickled" in one.notes[0]


def test_without_workers_what_belongs_to_them_goes_too(process: Process) -> None:
    applied(process, "in-process-loading", num_workers=0)
    loader = DataLoader(Numbers(), 4, num_workers=2, persistent_workers=True, prefetch_factor=4)
    assert (loader.num_workers, loader.persistent_workers) == (0, False)
    assert len(list(loader)) == 3


def test_workers_come_before_what_depends_on_them(process: Process) -> None:
    process.apply(
        [
            {"name": "loader-workers", "parameters": {"num_workers": 1}},
            {"name": "deeper-prefetch", "parameters": {"prefetch_factor": 5}},
        ]
    )
    loader = DataLoader(Numbers(), 4)
    assert (loader.num_workers, loader.prefetch_factor) == (1, 5)


def test_arguments_that_are_refused_are_taken_back(process: Process) -> None:
    one = applied(process, "loader-workers", num_workers=2, prefetch_factor=1)
    one.parameters["prefetch_factor"] = -3
    assert DataLoader(Numbers(), 4).num_workers == 0
    assert "it is built as the script says" in one.notes[0]


def test_a_script_that_builds_wrongly_gets_torchs_own_error(process: Process) -> None:
    applied(process, "loader-workers", num_workers=2)
    with pytest.raises(ValueError, match="batch_size"):
        DataLoader(Numbers(), batch_size=-1)
    with pytest.raises(TypeError):
        DataLoader()  # type: ignore[call-arg]


def test_a_fused_optimizer_updates_alike(process: Process) -> None:
    _, bare = losses()
    one = applied(process, "fused-optimizer")
    _, fused = losses()
    assert one.effects == 1
    assert fused == pytest.approx(bare, rel=1e-4)


def test_a_generator_of_parameters_is_not_used_up(process: Process) -> None:
    one = applied(process, "fused-optimizer")
    model = Images()
    optimizer = torch.optim.SGD(params=(p for p in model.parameters()), lr=0.1)
    assert len(optimizer.param_groups[0]["params"]) == 4
    assert optimizer.defaults["fused"] is True
    assert one.effects == 1


def test_an_optimizer_of_another_kind_stays(process: Process) -> None:
    one = applied(process, "fused-optimizer")
    chosen = torch.optim.SGD(Images().parameters(), lr=0.1, foreach=True)
    assert chosen.defaults["fused"] is None
    assert "SGD stays as it is: the script asks for foreach=True" in one.notes
    torch.optim.RMSprop(Images().parameters())
    torch.optim.AdamW(Images().parameters(), fused=True)
    assert "AdamW is fused already: the script asks for it" in one.notes
    assert one.effects == 0


def test_autocast_keeps_the_loss_and_gives_float32_back(process: Process) -> None:
    _, bare = losses()
    one = applied(process, "bf16-autocast")
    model, cast = losses()
    assert one.effects == 1
    assert model(torch.randn(2, 3, 8, 8)).dtype == torch.float32
    assert cast != bare
    assert cast == pytest.approx(bare, rel=CLOSE)


def test_a_scripts_own_autocast_is_its_own(process: Process) -> None:
    applied(process, "bf16-autocast")
    model, _ = losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.randn(2, 3, 8, 8)).dtype == torch.bfloat16


def test_outputs_of_any_shape_are_given_back_in_float32(process: Process) -> None:
    class Several(Images):
        def forward(self, images: torch.Tensor) -> Any:
            out = super().forward(images)
            return {"out": out, "more": [out, (out, 3)]}

    applied(process, "bf16-autocast")
    model = Several()
    for _ in range(2):
        told = model(torch.randn(2, 3, 8, 8))
    assert {told["out"].dtype, told["more"][0].dtype} == {torch.float32}
    assert told["more"][1][1] == 3


def test_channels_last_changes_the_layout_and_not_the_training(process: Process) -> None:
    _, bare = losses()
    one = applied(process, "channels-last")
    model, last = losses()
    assert one.effects == 1
    assert model.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert last == pytest.approx(bare, rel=1e-4)


def test_a_model_without_convolutions_keeps_its_layout(process: Process) -> None:
    one = applied(process, "channels-last")
    nn.Sequential(nn.Linear(3, 2))(torch.randn(4, 3)).sum().backward()
    assert one.notes == ["Sequential has no Conv2d, so its layout stays"]


def test_a_changed_model_pickles_copies_and_saves_as_before(process: Process) -> None:
    process.apply([{"name": "bf16-autocast"}, {"name": "channels-last"}])
    model, _ = losses()
    again = pickle.loads(pickle.dumps(model))
    assert list(again.state_dict()) == list(Images().state_dict())
    held = io.BytesIO()
    torch.save(model, held)
    assert b"speedprof.mitigations" not in held.getvalue()


def test_a_lazy_model_is_waited_for(process: Process) -> None:
    one = applied(process, "bf16-autocast")
    model = nn.Sequential(nn.LazyLinear(3))
    for _ in range(3):
        model(torch.randn(2, 5)).sum().backward()
    assert one.effects == 1


def test_evaluation_before_training_adopts_nothing(process: Process) -> None:
    one = applied(process, "bf16-autocast")
    with torch.no_grad():
        Images().eval()(torch.randn(2, 3, 8, 8))
    assert one.effects == 0


def test_collecting_less_often_is_undone(process: Process) -> None:
    before = gc.get_threshold()
    one = applied(process, "collect-garbage-less")
    losses()
    assert gc.get_threshold()[0] > before[0]
    assert gc.get_freeze_count() > 0
    assert one.effects == 1
    process.undo()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_flags_that_are_set_already_have_no_effect_and_say_so(process: Process) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        one = applied(process, "tf32")
        assert one.notes == ["float32 products run at precision 'high' already"]
        assert one.effects == 0
    finally:
        torch.set_float32_matmul_precision("highest")
    many = applied(process, "fewer-threads", threads=10_000)
    assert many.effects == 0
    assert "threads already" in many.notes[0]


def test_a_flag_that_the_script_sets_later_stays_the_scripts(process: Process) -> None:
    applied(process, "tf32")
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("medium")
    process.undo()
    assert torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("highest")


def test_after_every_remedy_was_applied_and_undone_training_is_as_it_was(process: Process) -> None:
    _, bare = losses()
    process.apply([{"name": name} for name in AUTOMATIC if name != "compile-model"])
    losses()
    assert process.undo() == []
    model, again = losses()
    assert again == bare
    assert DataLoader(Numbers(), 4).num_workers == 0
    assert model.convolution.weight.is_contiguous()
