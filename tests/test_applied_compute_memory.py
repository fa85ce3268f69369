"""Remedies for memory and for updates in force: checkpoints, gradients, the allocator, foreach."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from in_force import applied
from torch import Tensor, nn

from speedprof.mitigations.applied.process import Process

WIDTH = 16


class Block(nn.Module):
    """A block whose passes are counted."""

    def __init__(self, norm: Any = nn.LayerNorm) -> None:
        super().__init__()
        self.norm, self.dropout = norm(WIDTH), nn.Dropout(0.2)
        self.layer = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))
        self.passes = 0

    def forward(self, x: Tensor, *, by: Tensor | None = None) -> Tensor:
        self.passes += 1
        return x + self.dropout(self.layer(self.norm(x))) * (1.0 if by is None else by)


class Deep(nn.Module):
    def __init__(self, norm: Any = nn.LayerNorm) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(norm) for _ in range(3))
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, by=x.mean().detach())
        return self.last(x)


def losses(make: Any = Deep, *, steps: int = 4, half: bool = False, **zero: bool) -> Any:
    """Train from a fixed seed; return the model and its losses."""
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = []
    for _ in range(steps):
        x = torch.randn(8, WIDTH)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = model(x).float().square().mean()
        optimizer.zero_grad(**zero)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return model, found


class Kernels(torch.overrides.TorchFunctionMode):
    """Counts calls of the fused attention."""

    count = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += getattr(function, "__name__", "") == "scaled_dot_product_attention"
        return function(*args, **(kwargs or {}))


def kept_bytes(model: nn.Module) -> int:
    """Return the bytes that a forward pass keeps for backward."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.randn(256, WIDTH))
    return sum(kept.values())


# -- activation checkpointing


@pytest.mark.parametrize("half", [False, True])
def test_blocks_computed_again_train_bit_for_bit_alike(process: Process, half: bool) -> None:
    _, bare = losses(half=half)
    one = applied(process, "activation-checkpointing")
    model, again = losses(half=half)
    assert again == bare
    assert one.effects == 3
    # the first pass of the model is wrapped already: each block runs twice a step
    assert [block.passes for block in model.blocks] == [8, 8, 8]


def test_blocks_computed_again_keep_less(process: Process) -> None:
    model = Deep()
    before = kept_bytes(model)
    applied(process, "activation-checkpointing")
    model(torch.randn(8, WIDTH)).sum().backward()
    assert kept_bytes(model) < before / 2


def test_evaluation_and_frozen_passes_run_blocks_once(process: Process) -> None:
    applied(process, "activation-checkpointing")
    model, _ = losses(steps=1)
    for block in model.blocks:
        block.passes = 0
    with torch.no_grad():
        model(torch.randn(8, WIDTH))
    model.eval()(torch.randn(8, WIDTH)).sum().backward()
    assert [block.passes for block in model.blocks] == [2, 2, 2]


def test_statistics_of_batches_are_not_counted_twice(process: Process) -> None:
    def normed() -> Deep:
        return Deep(nn.BatchNorm1d)

    _, bare = losses(normed)
    one = applied(process, "activation-checkpointing")
    model, same = losses(normed)
    assert same == bare
    assert one.effects == 0
    assert "BatchNorm1d would count each batch twice" in one.notes[0]
    assert [block.passes for block in model.blocks] == [4, 4, 4]


def test_a_model_without_repeated_blocks_says_so(process: Process) -> None:
    one = applied(process, "activation-checkpointing")
    nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))(torch.randn(4, 3)).sum().backward()
    assert one.notes == ["Sequential has no list of blocks of one kind"]
    assert one.effects == 0


def test_a_checkpointed_model_pickles_and_copies_as_before(process: Process) -> None:
    applied(process, "activation-checkpointing")
    model, _ = losses(steps=1)
    assert list(model.state_dict()) == list(Deep().state_dict())
    twin = copy.deepcopy(model)
    again = pickle.loads(pickle.dumps(model))
    process.undo()
    for one in (twin, again):  # nothing of ours is in them
        one(torch.randn(8, WIDTH)).sum().backward()
        assert one.blocks[0].passes == model.blocks[0].passes + 1


def test_checkpoints_go_together_with_fused_attention(process: Process) -> None:
    import attentions

    def trained() -> tuple[nn.Module, list[float]]:
        torch.manual_seed(0)
        model = attentions.Model(attentions.NanoGPT, 0.1)
        found = []
        for _ in range(3):
            loss = model(torch.randn(3, 12, attentions.WIDTH)).square().mean()
            loss.backward()
            found.append(loss.item())
        return model, found

    process.apply([{"name": "fused-attention"}])
    _, fused = trained()
    process.undo()
    process.applied.clear()
    process.apply([{"name": "activation-checkpointing"}, {"name": "fused-attention"}])
    model, again = trained()
    assert again == fused
    assert [one.effects for one in process.applied] == [2, 2]
    calls: list[bool] = []
    for layer in model.layers:  # type: ignore[union-attr]
        layer.all.register_forward_hook(lambda *_: calls.append(True))
    with Kernels() as kernels:
        model(torch.randn(3, 12, attentions.WIDTH)).sum().backward()
    assert kernels.count == 2
    assert len(calls) == 4  # once more in backward


def test_shared_weights_under_ddp_are_warned_of(process: Process, tmp_path: Path) -> None:
    class Shared(Deep):
        def __init__(self) -> None:
            super().__init__()
            for block in self.blocks:
                block.norm = self.blocks[0].norm

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        one = applied(process, "activation-checkpointing")
        losses(lambda: nn.parallel.DistributedDataParallel(Deep()))
        assert one.notes == []
        losses(lambda: nn.parallel.DistributedDataParallel(Shared(), static_graph=True))
    finally:
        torch.distributed.destroy_process_group()
    assert one.effects == 6
    assert "build DistributedDataParallel with static_graph=True" in one.notes[0]


@pytest.mark.filterwarnings("ignore")
def test_models_of_transformers_use_their_own_switch(process: Process) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=32, use_cache=False
    )

    def trained() -> tuple[Any, list[float]]:
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).train()
        found = []
        for _ in range(3):
            ids = torch.randint(0, 50, (2, 10))
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            found.append(loss.item())
        return model, found

    _, bare = trained()
    one = applied(process, "activation-checkpointing")
    model, again = trained()
    assert one.effects == 1
    assert model.is_gradient_checkpointing
    assert again == bare
    process.undo()
    assert not model.is_gradient_checkpointing


# -- gradients


def test_zeros_become_none_where_the_plan_names_it(process: Process) -> None:
    _, bare = losses(set_to_none=False)
    one = applied(process, "set-to-none", set_to_none=True)
    model, dropped = losses(set_to_none=False)
    assert dropped == pytest.approx(bare, rel=1e-6)
    assert one.effects == 4
    model.zero_grad(False)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_scripts_own_zeros_stay_unless_named(process: Process) -> None:
    one = applied(process, "set-to-none")
    model, _ = losses(set_to_none=False)
    model.zero_grad(set_to_none=False)
    assert all(not parameter.grad.any() for parameter in model.parameters())
    assert one.effects == 0
    assert one.notes == [
        "the script asks for set_to_none=False itself; write set-to-none=true to change it"
    ]


def test_where_no_zeros_are_asked_for_it_says_so(process: Process) -> None:
    one = applied(process, "set-to-none", set_to_none=True)
    losses()
    process.finish()
    assert one.notes == ["no call of zero_grad asks for zeros"]
    process.undo()
    assert torch.optim.Optimizer.zero_grad.__module__ == "torch.optim.optimizer"


# -- the allocator


def test_without_a_gpu_its_allocator_is_left_alone(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = dict(os.environ)
    one = applied(process, "expandable-segments")
    assert one.notes == ["there is no GPU here, so its allocator is not used"]
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("given", "then"),
    [
        (None, "expandable_segments:True"),
        ("max_split_size_mb:128", "max_split_size_mb:128,expandable_segments:True"),
    ],
)
def test_segments_grow_beside_what_the_user_set(
    process: Process, monkeypatch: pytest.MonkeyPatch, given: str | None, then: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append, raising=False)
    name = "PYTORCH_CUDA_ALLOC_CONF"
    monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(name, given)
    one = applied(process, "expandable-segments")
    assert os.environ[name] == then
    assert told == [then]
    assert one.effects == 1
    process.undo()
    assert os.environ.get(name) == given


@pytest.mark.parametrize(
    ("given", "started", "why"),
    [
        ("expandable_segments:False", False, "says 'expandable_segments:False' already"),
        ("backend:cudaMallocAsync", False, "has no segments"),
        ("", True, "CUDA was initialised before"),
    ],
)
def test_what_the_user_set_or_began_wins(
    process: Process, monkeypatch: pytest.MonkeyPatch, given: str, started: bool, why: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", given)
    one = applied(process, "expandable-segments")
    assert os.environ["PYTORCH_ALLOC_CONF"] == given
    assert why in one.notes[0]
    assert one.effects == 0


@pytest.mark.gpu
def test_segments_grow_on_a_gpu() -> None:
    import subprocess
    import sys

    code = (
        "import torch\n"
        "from speedprof.mitigations.applied.process import Process\n"
        "from speedprof.profiler.fence import Fence\n"
        "process = Process(Fence(print), {})\n"
        "process.apply([{'name': 'expandable-segments'}])\n"
        "torch.ones(1 << 20, device='cuda')\n"
        "print({s['is_expandable'] for s in torch.cuda.memory_snapshot()})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{True}"


# -- optimizers that cannot be fused


def test_what_cannot_be_fused_updates_its_tensors_together(process: Process) -> None:
    parameters = [nn.Parameter(torch.randn(4)) for _ in range(3)]
    one = applied(process, "fused-optimizer", foreach=True)
    assert torch.optim.RMSprop(parameters).defaults["foreach"] is True
    assert torch.optim.NAdam(parameters, foreach=False).defaults["foreach"] is True
    assert torch.optim.SGD(parameters, lr=0.1).defaults["fused"] is True
    assert one.effects == 3


def test_without_the_parameter_other_optimizers_stay_and_it_says_so(process: Process) -> None:
    one = applied(process, "fused-optimizer")
    built = torch.optim.RMSprop([nn.Parameter(torch.randn(4))])
    assert built.defaults["foreach"] is None
    assert one.notes == [
        "RMSprop has no fused implementation; foreach=true updates its tensors together"
    ]
    assert one.effects == 0


def test_a_fused_optimizer_that_torch_refuses_updates_its_tensors_together(
    process: Process,
) -> None:
    one = applied(process, "fused-optimizer", foreach=True)
    whole = nn.Parameter(torch.zeros(2, dtype=torch.int32), requires_grad=False)
    built = torch.optim.Adam([whole])
    assert (built.defaults["fused"], built.defaults["foreach"]) == (None, True)
    assert "Adam cannot be fused: `fused=True` requires all the params to be" in one.notes[0]
