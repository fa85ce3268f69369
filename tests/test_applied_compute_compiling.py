"""Models that compile themselves: what is told of it, and when they run without the compiler."""

from __future__ import annotations

import copy
import functools
import pickle
import random
from collections.abc import Iterator
from typing import Any

import in_force
import pytest
import torch
from torch import Tensor, nn

from speedprof.mitigations.applied import compiling
from speedprof.mitigations.applied.process import Process

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]
STEPS = 10
applied = functools.partial(in_force.applied, name="compile-model")


@pytest.fixture(scope="module", autouse=True)
def compiler_is_warm() -> None:
    """Let the compiler set itself up: what it does once a process would look like a difference."""
    torch.compile(nn.Linear(1, 1), backend="aot_eager")(torch.ones(1, 1)).sum().backward()


@pytest.fixture(autouse=True)
def forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Dynamo capture and run what it captured as it is: nothing is generated."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.first(x)) * 2.0)


def broken(x: Tensor) -> Tensor:
    torch._dynamo.graph_break()
    return torch.sin(x)


class Looping(Net):
    """Breaks the graph in a loop, where Dynamo gives the frame up."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.sin(x)
            torch._dynamo.graph_break()
        return super().forward(x)


class Breaking(Net):
    """Breaks the graph around each of many small pieces."""

    def forward(self, x: Tensor) -> Tensor:
        x = broken(broken(broken(self.first(x))))
        print(end="")
        return self.last(x)


class Changing(Net):
    """Compiled anew for each value of a setting that changes at each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = ""

    def forward(self, x: Tensor) -> Tensor:
        self.passes += "I"
        return super().forward(x) if self.passes else x


class Random(Net):
    """Fails in the compiler's hands alone."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            raise ValueError("not while compiling")
        return super().forward(x)


def losses(kind: Any = Net, *, steps: int = STEPS, size: Any = lambda _step: 4) -> Any:
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = []
    for step in range(steps):
        loss = model(torch.randn(size(step), 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return model, found


def test_a_compiled_model_trains_alike_and_tells_what_compiling_took(
    process: Process, quick: None
) -> None:
    _, bare = losses(steps=20)
    one = applied(process)
    model, compiled = losses(steps=20)
    assert one.effects == 1
    assert compiled == pytest.approx(bare, rel=1e-5)
    assert model._compiled_call_impl is not None
    process.finish()
    assert len(one.notes) == 1
    assert one.notes[0].startswith("1 graph compiled in ")
    assert " ms instead of " in one.notes[0]
    assert "repaid" in one.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_every_mode_trains_alike_on_a_cpu(process: Process, mode: str) -> None:
    _, bare = losses()
    one = applied(process, mode=mode)
    _, compiled = losses()
    assert one.effects == 1
    assert compiled == pytest.approx(bare, rel=1e-4)
    without = ["CUDA graphs need a GPU; the model is compiled without them"]
    assert one.notes == (without if mode == "reduce-overhead" else [])


def test_a_storm_of_breaks_ends_the_compiling_and_names_the_lines(
    process: Process, quick: None
) -> None:
    _, bare = losses(Breaking)
    one = applied(process)
    model, broken = losses(Breaking)
    assert broken == pytest.approx(bare, rel=1e-5)
    assert model._compiled_call_impl is None
    assert one.effects == 0
    assert "the model runs without the compiler: the graph broke " in one.notes[0]
    assert "test_applied_compute_compiling.py:" in one.notes[0]
    assert " times)" in one.notes[0].split("; ")[1]  # the most frequent reason comes first
    process.finish()
    assert " graphs compiled in " in one.notes[1]


def test_a_frame_that_dynamo_gives_up_is_told(process: Process, quick: None) -> None:
    one = applied(process)
    model, _ = losses(Looping)
    assert model._compiled_call_impl is None
    assert one.effects == 0
    assert "the graph broke once; " in one.notes[0]
    assert "Call to `torch._dynamo.graph_break()` at " in one.notes[0]


def test_breaks_that_cost_little_are_told_and_no_more(
    process: Process, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "ENTRY_S", 1e-9)  # as if a pass took seconds
    one = applied(process)
    model, _ = losses(Breaking)
    assert model._compiled_call_impl is not None
    process.finish()
    assert one.effects == 1
    assert one.notes[0].startswith("the graph broke ")


def test_a_model_that_is_compiled_anew_at_each_pass_is_given_up(
    process: Process, quick: None
) -> None:
    _, bare = losses(Changing, steps=24)
    one = applied(process)
    model, changing = losses(Changing, steps=24)
    assert changing == pytest.approx(bare, rel=1e-5)
    assert model._compiled_call_impl is None
    assert one.effects == 0
    assert "it was compiled again 8 times" in one.notes[0]


def test_sizes_that_vary_are_compiled_once_more_and_kept(process: Process, quick: None) -> None:
    random.seed(0)
    one = applied(process)
    model, _ = losses(steps=24, size=lambda _step: random.randint(2, 30))
    assert model._compiled_call_impl is not None
    assert one.effects == 1


def test_a_failing_compiler_does_not_end_the_training(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no such kernel")

    _, bare = losses()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    one = applied(process)
    _, found = losses()
    assert found == bare
    process.finish()
    assert one.notes  # which of them depends on where torch catches it


def test_a_backward_pass_that_cannot_be_compiled_does_not_end_the_training(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.backends.common import aot_autograd

    def broken(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no such kernel")

    backend = aot_autograd(fw_compiler=lambda graph, _inputs: graph, bw_compiler=broken)
    _, bare = losses()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    one = applied(process)
    _, found = losses()
    assert found == pytest.approx(bare, rel=1e-5)
    process.finish()
    assert one.notes


def test_a_compiled_model_that_fails_runs_without_the_compiler(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(graph: Any, _inputs: Any) -> Any:
        calls = []

        def run(*inputs: Any) -> Any:
            calls.append(1)
            if len(calls) > 2:  # of passes with the compiler
                raise RuntimeError("device-side failure\nmore")
            return graph.forward(*inputs)

        return run

    _, bare = losses()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=failing))
    one = applied(process)
    model, found = losses()
    assert found == pytest.approx(bare, rel=1e-5)
    assert model._compiled_call_impl is None
    assert one.effects == 0
    why = "the compiled model failed (RuntimeError: device-side failure)"
    assert one.notes == [f"the model runs without the compiler: {why}"]


def test_the_scripts_own_errors_reach_it_and_change_nothing(process: Process, quick: None) -> None:
    one = applied(process)
    model, _ = losses()
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.randn(4, 9))
    assert model._compiled_call_impl is not None
    assert one.effects == 1


def test_a_model_that_the_script_compiles_stays_its(process: Process, quick: None) -> None:
    one = applied(process)
    model = Net()
    model.compile(backend="eager")
    own = model._compiled_call_impl
    for _ in range(3):
        model(torch.randn(4, 8)).sum().backward()
    assert model._compiled_call_impl is own
    assert one.notes in (["the script compiles the model itself"], [])


def test_a_compiled_model_pickles_copies_and_saves_as_before(
    process: Process, quick: None
) -> None:
    applied(process)
    model, _ = losses()
    assert model._compiled_call_impl is not None
    x = torch.randn(4, 8)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert again._compiled_call_impl is None
        torch.testing.assert_close(again(x), model(x))
    assert list(model.state_dict()) == list(Net().state_dict())


def test_a_training_that_is_over_before_says_so(process: Process, quick: None) -> None:
    one = applied(process)
    losses(steps=2)
    process.finish()
    assert one.effects == 0
    assert one.notes == ["the training ended before its pass 6, at which it is compiled"]


def test_after_undoing_training_is_as_it_was(process: Process, quick: None) -> None:
    from torch._dynamo import config
    from torch._dynamo.callback import callback_handler

    _, bare = losses()
    before = (config.suppress_errors, len(callback_handler.start_callbacks))
    applied(process)
    model, _ = losses()
    process.undo()
    assert model._compiled_call_impl is None
    assert (config.suppress_errors, len(callback_handler.start_callbacks)) == before
    assert losses()[1] == bare


@pytest.mark.parametrize("name", ["fused-attention", "activation-checkpointing"])
def test_it_goes_together_with_other_remedies_of_the_model(
    process: Process, quick: None, name: str
) -> None:
    import attentions

    def trained() -> list[float]:
        torch.manual_seed(0)
        model = attentions.Model(attentions.NanoGPT)
        found = []
        for _ in range(9):
            loss = model(torch.randn(3, 12, attentions.WIDTH)).square().mean()
            loss.backward()
            found.append(loss.item())
        return found

    bare = trained()
    process.apply([{"name": "compile-model"}, {"name": name}])
    assert trained() == pytest.approx(bare, rel=1e-4)
    process.finish()
    notes = [note for one in process.applied for note in one.notes]
    assert not [note for note in notes if "broke" in note], notes
    assert [one.effects for one in process.applied] in ([1, 2], [2, 1])


@pytest.mark.gpu
def test_outputs_of_cuda_graphs_may_be_kept(process: Process) -> None:
    one = applied(process, mode="reduce-overhead")
    model = Net().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    kept, told = [], []
    for _ in range(12):
        out = model(torch.randn(4, 8, device="cuda"))
        optimizer.zero_grad()
        out.square().mean().backward()
        optimizer.step()
        kept.append(out.detach())
        told.append(out.detach().cpu())
    assert one.effects == 1
    for out, value in zip(kept, told, strict=True):
        assert torch.equal(out.cpu(), value)
