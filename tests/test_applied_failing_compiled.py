"""Compiled models that fail while a training runs: it goes on without the compiler."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from failing_cases import ASKS, WIDTH, Net, losses
from in_force import applied
from torch import Tensor, nn

from speedprof.mitigations.applied.process import Applied, Process

pytestmark = [
    pytest.mark.usefixtures("compiler_is_warm"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


# -- backward passes of compiled graphs


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
