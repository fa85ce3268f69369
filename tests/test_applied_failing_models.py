"""Models that a remedy cannot hold of, or that fail under it: the training goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from typing import Any

import pytest
import torch
from failing_cases import WIDTH, Net, losses
from in_force import applied
from torch import Tensor, nn

from speedprof.mitigations.applied.process import Process

pytestmark = [
    pytest.mark.usefixtures("compiler_is_warm"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


# -- copies of the model


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.mark.parametrize("name", ["compile-model", "bf16-autocast"])
def test_models_that_run_as_copies_are_left_alone(
    process: Process, compiled: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def forward(wrapper: Any, x: Tensor) -> Tensor:  # as on two GPUs
        copy = wrapper.module._replicate_for_data_parallel()
        copy.weight = wrapper.module.weight * 3.0
        return copy(x)

    monkeypatch.setattr(nn.DataParallel, "forward", forward)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    one = applied(process, name)
    model = nn.DataParallel(Scaled())
    model.device_ids = [0, 1]
    x = torch.randn(4)
    for _ in range(8):
        assert torch.equal(model(x), x * 3.0)
    assert one.effects == 0
    assert one.notes == ["DataParallel runs copies of the model, which stay as they are"]


def test_a_model_whose_parts_are_called_while_it_is_built_is_found(process: Process) -> None:
    class Asking(Net):
        """Asks a part what sizes it gives, as many do before they build the next."""

        def __init__(self) -> None:
            super().__init__()
            for _ in range(2):
                self.first(torch.zeros(1, WIDTH))

    one = applied(process, "bf16-autocast")
    model, _ = losses(Asking)
    seen: list[torch.dtype] = []
    model.last.register_forward_hook(lambda _module, _inputs, out: seen.append(out.dtype))
    model(torch.randn(4, WIDTH))
    assert seen == [torch.bfloat16]
    assert one.notes == []


def test_the_hook_that_finds_models_goes_and_comes_back_for_another_training(
    process: Process,
) -> None:
    hooks = nn.modules.module._global_forward_pre_hooks
    one = applied(process, "bf16-autocast")
    for found in (1, 2, 3):
        losses()
        assert one.effects == found
        assert not hooks


@pytest.mark.filterwarnings("ignore:Using .torch.compile:UserWarning")
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_model_that_the_script_compiles_is_found_and_not_compiled_again_and_again(
    process: Process, compiled: None, wrapped: bool
) -> None:
    from torch._dynamo.utils import counters

    made: list[int] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        made.append(1)
        return graph.forward

    counters.clear()
    one = applied(process, "bf16-autocast")
    model = Net()
    if wrapped:
        called = torch.compile(model, backend=backend)
    else:
        called = model
        model.compile(backend=backend)
    for _ in range(12):
        called(torch.randn(4, WIDTH)).sum().backward()
    assert one.effects == 1
    assert len(made) <= 2


def test_torchscript_is_left_alone(process: Process) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scripted = torch.jit.script(Net())
    one = applied(process, "bf16-autocast")
    for _ in range(3):
        scripted(torch.randn(4, WIDTH)).sum().backward()
    assert one.notes == ["RecursiveScriptModule is TorchScript, which stays as it is"]


@pytest.mark.parametrize("name", ["bf16-autocast", "channels-last"])
def test_a_forward_that_the_script_puts_on_a_model_has_no_effect_and_it_is_said(
    process: Process, name: str
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    own = model.forward
    model.forward = functools.partial(own)  # type: ignore[method-assign]
    one = applied(process, name)
    for _ in range(3):
        assert model(torch.randn(2, 3, 8, 8)).dtype == torch.float32
    assert one.effects == 0
    assert one.notes == ["Sequential has a forward of its own put on it, which stays"]


# -- autocast


class Summing(Net):
    """Adds into float32 by index, as graph networks do: no half precision there."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.zeros(len(x), 16)
        return self.last(seen.index_add(0, torch.arange(len(x)), self.first(x)))


@pytest.mark.parametrize("name", ["bf16-autocast", "fp16-autocast"])
def test_a_model_that_fails_under_autocast_runs_without_it(process: Process, name: str) -> None:
    _, bare = losses(Summing)
    one = applied(process, name)
    _, found = losses(Summing)
    assert found == pytest.approx(bare, rel=1e-6)
    assert one.effects == 0
    assert one.notes[0].startswith("Summing fails under autocast and runs without it: Runtime")
    process.finish()
    assert len(one.notes) == 1


def test_a_dataclass_is_given_back_in_float32(process: Process) -> None:
    @dataclasses.dataclass(frozen=True)
    class Out:
        scores: Tensor
        kept: tuple[Tensor, ...]

    class Telling(Net):
        def forward(self, x: Tensor) -> Any:
            made = super().forward(x)
            return Out(made, (made,))

    applied(process, "bf16-autocast")
    model = Telling()
    for _ in range(2):
        out = model(torch.randn(4, WIDTH))
    assert {out.scores.dtype, out.kept[0].dtype} == {torch.float32}


def test_the_scripts_own_errors_reach_it_under_autocast(process: Process) -> None:
    one = applied(process, "bf16-autocast")
    model, _ = losses(steps=3)
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.randn(4, WIDTH + 1))
    assert one.effects == 1
    assert one.notes == []


def test_no_update_is_left_out_once_a_model_with_too_large_gradients_is_gone(
    process: Process,
) -> None:
    applied(process, "fp16-autocast")
    model = Net()
    (model(torch.randn(4, WIDTH)).sum() * 1e38).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    del model
    other, x = nn.Linear(2, 1), torch.randn(3, 2)
    other(x).sum().backward()
    before = other.weight.detach().clone()
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    assert not torch.equal(other.weight, before)


def test_a_backward_pass_that_is_caught_leaves_true_gradients(process: Process) -> None:
    class Refused(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(_context: Any, _gradient: Tensor) -> Tensor:  # type: ignore[override]
            raise RuntimeError("out of memory")

    applied(process, "fp16-autocast")
    model = Net()
    torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(4, WIDTH)).sum().backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    with contextlib.suppress(RuntimeError):
        Refused.apply(model(torch.randn(4, WIDTH))).sum().backward()
    for parameter, expected in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, expected)  # type: ignore[arg-type]
