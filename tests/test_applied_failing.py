"""Remedies of the model that fail while a training runs: it goes on, and they are given up."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from in_force import applied
from torch import Tensor, nn

from speedprof.mitigations.applied.process import Applied, Process

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]
WIDTH = 8
ASKS = "create" + "_graph"  # not written out: remedies read this file for it


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.first(x)) * 2.0)


def losses(
    kind: Any = Net,
    *,
    steps: int = 10,
    size: Any = lambda _step: 4,
    again: int = 1,
    shape: Any = (WIDTH,),
) -> Any:
    """Train from a fixed seed; return the model and its losses."""
    torch.manual_seed(0)
    random.seed(0)
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = []
    for step in range(steps):
        loss = model(torch.randn(size(step), *shape)).float().square().mean()
        optimizer.zero_grad()
        for _ in range(again - 1):
            loss.backward(retain_graph=True)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return model, found


# -- backward passes of compiled graphs


@pytest.fixture(scope="module", autouse=True)
def compiler_is_warm() -> None:
    """Let the compiler set itself up: what it does once a process would look like a difference."""
    torch.compile(nn.Linear(1, 1), backend="aot_eager")(torch.ones(1, 1)).sum().backward()


@pytest.fixture
def compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def use(monkeypatch: pytest.MonkeyPatch, bw_compiler: Any) -> None:
    """Let models be compiled with this for their backward passes."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func

    backend = aot_autograd(
        fw_compiler=lambda graph, _inputs: make_boxed_func(graph.forward), bw_compiler=bw_compiler
    )
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))


def boxed(run: Any) -> Any:
    run._boxed_call = True
    return run


def assert_given_up(one: Applied, model: Any, why: str) -> None:
    assert model._compiled_call_impl is None
    assert one.effects == 0
    assert one.notes[0] == f"the model runs without the compiler: {why}"


def test_a_backward_pass_that_fails_as_it_runs_is_computed_without_the_compiler(
    process: Process, compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_graph: Any, _inputs: Any) -> Any:
        def run(given: list[Any]) -> Any:
            given.clear()  # as compiled code does, to free what it has used
            raise RuntimeError("no image for this device\nmore")

        return boxed(run)

    _, bare = losses()
    use(monkeypatch, failing)
    one = applied(process, "compile-model")
    model, found = losses()
    assert found == pytest.approx(bare, rel=1e-5)
    why = "the compiled backward pass failed (RuntimeError: no image for this device)"
    assert_given_up(one, model, why)


def test_a_backward_pass_that_is_compiled_late_and_cannot_be_is_computed_without(
    process: Process, compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._functorch import config

    def broken(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no such kernel")

    def late(_step: int) -> int:
        config.force_non_lazy_backward_lowering = False  # as in versions that do not know it
        return 4

    _, bare = losses()
    use(monkeypatch, broken)
    one = applied(process, "compile-model")
    model, found = losses(size=late)
    assert found == pytest.approx(bare, rel=1e-5)
    assert_given_up(one, model, "the compiled backward pass failed (RuntimeError: no such kernel)")


def test_a_backward_pass_that_fails_for_one_size_is_computed_without_the_compiler(
    process: Process, compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choosy(graph: Any, _inputs: Any) -> Any:
        def run(given: list[Any]) -> Any:
            if 7 in [one for one in given if isinstance(one, int)]:
                given.clear()
                raise RuntimeError("too many threads")
            return graph.forward(*given)

        return boxed(run)

    def size(step: int) -> int:
        return 7 if step == 13 else 4 + step % 3 if step > 6 else 4

    _, bare = losses(steps=18, size=size)
    use(monkeypatch, choosy)
    one = applied(process, "compile-model")
    model, found = losses(steps=18, size=size)
    assert found == pytest.approx(bare, rel=1e-5)
    why = "the compiled backward pass failed (RuntimeError: too many threads)"
    assert_given_up(one, model, why)


def test_gradients_that_were_there_are_added_to_once(
    process: Process, compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accumulation over passes, of which one fails in backward."""

    def failing(_graph: Any, _inputs: Any) -> Any:
        return boxed(lambda _given: 1 / 0)

    def gradients() -> list[Tensor]:
        torch.manual_seed(0)
        model = Net()
        for _ in range(9):
            model(torch.randn(4, WIDTH)).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    bare = gradients()
    use(monkeypatch, failing)
    one = applied(process, "compile-model")
    found = gradients()
    assert "the compiled backward pass failed (ZeroDivisionError" in one.notes[0]
    for expected, got in zip(bare, found, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True])
def test_what_inductor_compiled_may_fail_in_backward_too(
    process: Process, compiled: None, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    from torch._inductor import output_code

    if cached:  # read again from torch's cache, which has no graph of its own
        losses_compiled(process)
        torch._dynamo.reset()
    call = output_code.CompiledFxGraph.__call__

    def failing(compiled: Any, inputs: Any) -> Any:
        if compiled.fx_kwargs.get("is_backward"):
            inputs.clear()
            raise RuntimeError("an illegal instruction")
        return call(compiled, inputs)

    _, bare = losses()
    monkeypatch.setattr(output_code.CompiledFxGraph, "__call__", failing)
    one = applied(process, "compile-model")
    model, found = losses()
    assert found == pytest.approx(bare, rel=1e-4)
    why = "the compiled backward pass failed (RuntimeError: an illegal instruction)"
    assert_given_up(one, model, why)


def losses_compiled(process: Process) -> None:
    applied(process, "compile-model")
    losses()
    process.undo()
    process.applied.clear()


def test_a_script_may_reset_the_compiler(process: Process, compiled: None) -> None:
    applied(process, "compile-model")
    model = nn.Linear(WIDTH, 1)
    for step in range(9):
        if step == 5:
            torch._dynamo.reset()
        model(torch.randn(4, WIDTH))
    torch._dynamo.reset()
    assert process.undo() == []


@pytest.mark.slow
def test_a_graph_that_is_retained_stays_compiled(process: Process, compiled: None) -> None:
    _, bare = losses(Wide, again=2)
    one = applied(process, "compile-model")
    model, found = losses(Wide, again=2)
    assert found == pytest.approx(bare, rel=1e-4)
    assert model._compiled_call_impl is not None, one.notes


class Wide(Net):
    """Keeps what its backward pass could write over."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.first(x)).exp().tanh())


# -- gradients of gradients


def penalised(kind: Any = Net, steps: int = 9) -> list[float]:
    """Train with a penalty on the gradients of the gradients, from a fixed seed."""
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = []
    for _ in range(steps):
        x = torch.randn(4, WIDTH, requires_grad=True)
        (slope,) = torch.autograd.grad(model(x).sum(), x, **{ASKS: True})  # type: ignore[arg-type]
        loss = (slope.square().sum(1).sqrt() - 1.0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_a_model_whose_gradients_are_differentiated_is_not_compiled(
    process: Process, compiled: None
) -> None:
    bare = penalised()
    one = applied(process, "compile-model")
    assert penalised() == bare
    assert one.effects == 0
    assert "the script differentiates gradients again" in one.notes[0]
    process.finish()
    assert len(one.notes) == 1


@pytest.mark.parametrize("name", ["compile-model", "fused-attention"])
def test_a_model_whose_file_asks_for_gradients_of_gradients_is_left_alone(
    process: Process, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "penalty.py"
    path.write_text(
        "import torch\n"
        f"# {ASKS}=True would be a comment\n"
        "class Net(torch.nn.Linear):\n"
        "    def slope(self, x):\n"
        f"        return torch.autograd.grad(self(x).sum(), x, {ASKS}=True)\n"
    )
    spec = importlib.util.spec_from_file_location("penalty", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["penalty"] = module
    try:
        spec.loader.exec_module(module)
        one = applied(process, name)
        for _ in range(7):
            module.Net(WIDTH, 1)(torch.randn(4, WIDTH)).sum().backward()
    finally:
        del sys.modules["penalty"]
    assert one.effects == 0
    assert one.notes[0].startswith("penalty.py differentiates gradients again")


SCRIPT = """
import sys
import torch
from torch import nn
import speedprof

class Net(nn.Linear):
    pass

def train(penalty=None):
    model = Net(8, 1)
    for step in range(9):
        x = torch.randn(4, 8, requires_grad=True)
        (slope,) = torch.autograd.grad(model(x).sum(), x{})
    return model

said = speedprof.apply("compile-model")
train()
print(said)
"""


@pytest.mark.slow
@pytest.mark.parametrize("asks", [True, False])
def test_a_script_is_read_for_gradients_of_gradients(tmp_path: Path, asks: bool) -> None:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(f", {ASKS}=True" if asks else f"  # {ASKS}=True\n"))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert ("train.py differentiates gradients again" in done.stdout) is asks


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


# -- layouts


class Viewing(nn.Module):
    """As the tutorials write it: what a convolution gives is viewed as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4 * 6 * 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.layer(x))
        return self.last(seen.view(seen.size(0), 4 * 6 * 6))


def test_a_model_that_needs_its_layout_keeps_it(process: Process) -> None:
    _, bare = losses(Viewing, shape=(3, 8, 8))
    one = applied(process, "channels-last")
    model, found = losses(Viewing, shape=(3, 8, 8))
    assert found == pytest.approx(bare, rel=1e-5)
    assert model.layer.weight.is_contiguous()
    assert one.effects == 0
    assert one.notes[0].startswith("Viewing fails with channels last and keeps its layout: Run")


@pytest.mark.parametrize("fused", [True, False])
def test_what_an_optimizer_keeps_follows_the_layout_of_its_weights(
    process: Process, fused: bool
) -> None:
    def trained(undo: Any = None) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=fused)
        found = []
        for step in range(8):
            if undo is not None and step == 5:
                undo()
            loss = model(torch.randn(2, 3, 8, 8)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    bare = trained()
    one = applied(process, "channels-last")
    assert trained(process.undo) == pytest.approx(bare, rel=1e-4)
    assert one.effects == 1


@pytest.mark.parametrize("view", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_ranks_exchange_true_gradients_whatever_the_layout(
    process: Process, group_of_one: None, view: bool, fused: bool
) -> None:
    def trained() -> list[float]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3))
        model = nn.parallel.DistributedDataParallel(layers, gradient_as_bucket_view=view)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=fused)
        found = []
        for _ in range(8):
            loss = model(torch.randn(2, 3, 8, 8)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    bare = trained()
    one = applied(process, "channels-last")
    assert trained() == pytest.approx(bare, rel=1e-4)
    assert one.effects == view
    assert [note[:59] for note in one.notes] == (
        [] if view else ["Sequential keeps its layout: the buckets of DistributedData"]
    )


# -- optimizers


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad])
def test_an_optimizer_whose_gradients_are_sparse_is_not_fused(process: Process, kind: Any) -> None:
    def trained() -> tuple[Any, list[float]]:
        torch.manual_seed(0)
        words = nn.Embedding(20, 4, sparse=True)
        optimizer = kind(words.parameters(), lr=0.1)
        found = []
        for _ in range(5):
            loss = words(torch.randint(20, (6,))).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return optimizer, found

    _, bare = trained()
    one = applied(process, "fused-optimizer")
    optimizer, found = trained()
    assert found == pytest.approx(bare, rel=1e-6)
    assert not optimizer.param_groups[0]["fused"]
    assert one.effects == 0
    assert one.notes == [f"{kind.__name__} cannot be fused: gradients of it are sparse"]


@pytest.mark.parametrize("resumed", [True, False])
def test_an_optimizer_that_resumes_with_another_layout_is_not_fused(
    process: Process, resumed: bool
) -> None:
    def trained(state: Any = None) -> tuple[Any, list[float]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        if state is not None:
            optimizer.state.update(zip(model.parameters(), state, strict=True))
        model.to(memory_format=torch.channels_last)
        found = []
        for _ in range(5):
            loss = model(torch.randn(2, 3, 8, 8)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return optimizer, found

    held = trained()[0].state.values() if resumed else []

    def kept() -> Any:  # as a run that knew nothing of layouts had saved it
        return [{n: t.contiguous().clone() for n, t in one.items()} for one in held] or None

    _, bare = trained(kept())
    one = applied(process, "fused-optimizer")
    optimizer, found = trained(kept())
    assert found == pytest.approx(bare, rel=1e-4)
    assert bool(optimizer.param_groups[0]["fused"]) is not resumed
    assert one.effects == (0 if resumed else 1)
    assert len(one.notes) == resumed


# -- attention


def test_attention_that_the_kernel_refuses_later_runs_as_it_is_written(process: Process) -> None:
    import attentions

    torch.manual_seed(0)
    model = attentions.Model(attentions.Masked)
    x = torch.randn(attentions.BATCH, attentions.LENGTH, attentions.WIDTH)
    small = torch.zeros(attentions.BATCH, 1, 1, attentions.LENGTH, dtype=torch.bool)
    # an axis more, which broadcasts where it is written out
    large = torch.zeros(2, 1, 1, 1, attentions.LENGTH, dtype=torch.bool)[:, 0]
    bare = [model(x, small), model(x[:2], large)]
    one = applied(process, "fused-attention")
    model(x, small)
    kernel = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = refusing
    try:
        found = [model(x, small), model(x[:2], large)]
    finally:
        torch.nn.functional.scaled_dot_product_attention = kernel
    for expected, got in zip(bare, found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert one.effects == 0
    why = "RuntimeError: this head dim is not supported"
    assert one.notes == [f"Masked fails in one kernel and runs as it is written: {why}"]


def refusing(*_arguments: Any, **_keywords: Any) -> Tensor:
    raise RuntimeError("this head dim is not supported")


class Config:
    _attn_implementation = "eager"


class Theirs(Net):
    """A model that is switched as those of transformers are, and fails once it is."""

    _supports_sdpa = True

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def forward(self, x: Tensor) -> Any:
        if self.config._attn_implementation == "sdpa":
            raise RuntimeError("no fused attention for this bias")
        return super().forward(x)


def test_a_model_of_transformers_that_fails_when_it_is_switched_is_switched_back() -> None:
    from speedprof.profiler.fence import Fence

    _, bare = losses(Theirs)
    said: list[str] = []
    process = Process(Fence(said.append), {})
    process.apply([{"name": "fused-attention"}])
    try:
        model, found = losses(Theirs)
    finally:
        process.undo()
    assert found == bare
    assert model.config._attn_implementation == "eager"
    assert "no fused attention for this bias" in said[0]


class Weighing(Theirs):
    """Gives its weights where they are asked for, if they are written out."""

    def forward(self, x: Tensor, *, output_attentions: bool = False) -> Any:
        made = Net.forward(self, x)
        written_out = self.config._attn_implementation == "eager"
        weights = (torch.ones(1),) if output_attentions and written_out else ()
        return {"out": made, "attentions": weights}


def test_weights_that_are_asked_for_are_given(process: Process) -> None:
    one = applied(process, "fused-attention")
    model, x = Weighing(), torch.randn(4, WIDTH)
    for _ in range(2):
        model(x)  # the first pass had begun when the model was found
    assert one.notes == []
    assert (one.effects, model.config._attn_implementation) == (1, "sdpa")
    assert len(model(x, output_attentions=True)["attentions"]) == 1
    assert one.effects == 0
    process.undo()
    always = applied(process, "fused-attention")
    model = Weighing()
    for _ in range(3):
        assert len(model(x, output_attentions=True)["attentions"]) == 1
    assert always.notes == ["Weighing stays as it is: it returns something else"]


# -- activation checkpointing


class Drawing(nn.Module):
    """Draws from Python what it does, as layers that are left out at random."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        if random.random() < 0.5:
            return x * random.random() * 1.0
        return x + self.layer(x) * random.random()


class Writing(Drawing):
    """Writes to what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        x += 0.5
        return self.layer(x)


class Normed(nn.Module):
    """Steps on in its norm at each pass."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
        self.layer = nn.Sequential(layer, nn.GELU(), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def stack(kind: Any) -> Any:
    return lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), *(kind() for _ in range(3)))


@pytest.mark.parametrize(("kind", "stays"), [(Drawing, False), (Writing, True), (Normed, True)])
def test_blocks_that_do_more_than_compute_train_bit_for_bit_alike(
    process: Process, kind: Any, stays: bool
) -> None:
    _, bare = losses(stack(kind))
    one = applied(process, "activation-checkpointing")
    _, found = losses(stack(kind))
    assert found == bare
    assert one.effects == (0 if stays else 3)
    left = f"{kind.__name__} stays as it is: it writes to its inputs or buffers"
    assert one.notes == ([left] if stays else [])
