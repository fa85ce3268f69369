"""A compiled training compiles as it would: same graphs, no recompilation, same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speedprof.profiler import device_probes
from speedprof.profiler.session import Session
from speedprof.tests.in_process import digest, facts, measuring

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]
STEPS = 24  # enough for a window to open and close after a warm-up of two
BACKENDS = ["eager", "aot_eager"]


@pytest.fixture(scope="module", autouse=True)
def compiler_is_warm() -> None:
    """Let the compiler set itself up: what it does once a process would look like a difference."""
    _compiled_training(optimizer_step, "eager")


@pytest.fixture(autouse=True)
def forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


class Graphs:
    """A backend that counts the graphs it is given, and the operators in them."""

    def __init__(self, backend: str) -> None:
        self._backend = torch._dynamo.backends.registry.lookup_backend(backend)
        self.operators: list[list[str]] = []

    def __call__(self, module: Any, inputs: Any) -> Any:
        self.operators.append([str(node.target) for node in module.graph.nodes])
        return self._backend(module, inputs)


def _model() -> Any:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))


def _loader() -> Any:
    generator = torch.Generator().manual_seed(3)
    data = torch.utils.data.TensorDataset(torch.randn(4 * STEPS, 8, generator=generator))
    return torch.utils.data.DataLoader(data, batch_size=4)


def model(compiled: Callable[..., Any]) -> str:
    """Compile the model alone, as most scripts do."""
    inner = _model()
    outer, optimizer = compiled(inner), torch.optim.SGD(inner.parameters(), lr=0.1)
    for (batch,) in _loader():
        optimizer.zero_grad()
        outer(batch).square().mean().backward()
        optimizer.step()
    return digest(inner)


def optimizer_step(compiled: Callable[..., Any]) -> str:
    """Compile the optimizer's step, too, hooks and all."""
    inner = _model()
    optimizer = torch.optim.Adam(inner.parameters(), lr=torch.tensor(0.1))

    def update() -> None:
        optimizer.step()

    outer = compiled(inner)
    update = compiled(update, fullgraph=False)  # torch breaks the graph of `step` itself
    for (batch,) in _loader():
        outer(batch).square().mean().backward()
        update()
        optimizer.zero_grad()
    return digest(inner)


def modes(compiled: Callable[..., Any]) -> str:
    """Change between training and evaluation, inside what is compiled and outside."""
    inner = _model()
    outer, optimizer = compiled(inner), torch.optim.SGD(inner.parameters(), lr=0.1)
    for done, (batch,) in enumerate(_loader()):
        outer(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if done % 6 == 5:
            inner.eval()
            with torch.no_grad():
                outer(batch)
            inner.train()
    return digest(inner)


def conversions(compiled: Callable[..., Any]) -> str:
    """Call what the device probes watch inside what is compiled."""
    inner = _model()
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.1)

    @compiled
    def forward(batch: Any) -> Any:
        moved = batch.to("cpu", non_blocking=True).to(torch.float32).cpu()
        return inner(moved).square().mean()

    total = 0.0
    for (batch,) in _loader():
        optimizer.zero_grad()
        loss = forward(batch.to(torch.float64))
        loss.backward()
        optimizer.step()
        loss = loss.detach()
        total += loss.item() + float(loss) + int(loss) + bool(loss) + sum(loss.reshape(1).tolist())
    return f"{digest(inner)} {total.hex()}"


def collective(compiled: Callable[..., Any]) -> str:
    """Reduce inside what is compiled and outside."""
    inner = _model()
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.1)

    @compiled
    def forward(batch: Any) -> Any:
        output = inner(batch).square().mean()
        shared = output.detach().clone()
        torch.distributed.all_reduce(shared)
        return output + 0 * shared

    for (batch,) in _loader():
        optimizer.zero_grad()
        forward(batch).backward()
        for parameter in inner.parameters():
            torch.distributed.all_reduce(parameter.grad)
        optimizer.step()
    return digest(inner)


def checkpointed(compiled: Callable[..., Any]) -> str:
    """Recompute activations inside what is compiled."""
    from torch.utils.checkpoint import checkpoint

    inner = _model()
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.1)

    @compiled
    def forward(batch: Any) -> Any:
        return checkpoint(inner, batch, use_reentrant=False).square().mean()

    for (batch,) in _loader():
        optimizer.zero_grad()
        forward(batch).backward()
        optimizer.step()
    return digest(inner)


TRAININGS = {
    each.__name__: each for each in (model, optimizer_step, modes, conversions, checkpointed)
}


def _compiled_training(
    training: Callable[[Callable[..., Any]], str], backend: str
) -> tuple[str, list[list[str]], dict[str, Any]]:
    """Train; return the numbers, the graphs and what Dynamo counted, frames left out."""
    graphs = Graphs(backend)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    def compiled(what: Any, *, fullgraph: bool = True) -> Any:
        return torch.compile(what, fullgraph=fullgraph, backend=graphs)

    numbers = training(compiled)
    counted = {
        name: dict(torch._dynamo.utils.counters[name])
        for name in ("stats", "graph_break", "recompiles", "unimplemented")
    }
    ours = [name for name in _compiled_files() if "/profiler/" in name]
    assert not ours, f"frames of ours were compiled: {ours}"
    return numbers, graphs.operators, counted


def _compiled_files() -> set[str]:
    """Return the files of all functions that Dynamo has compiled, or tried to."""
    codes = (seen() for seen in torch._dynamo.convert_frame.input_codes.seen)
    return {code.co_filename for code in codes if code is not None}


def _watch_a_device(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the device probes where no device is: their question for one is answered."""
    monkeypatch.setattr(device_probes, "device_possible", lambda: True)
    device_probes.install(session, {})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", TRAININGS)
def test_the_same_graphs_as_bare_while_windows_open_and_close(
    tmp_path: Path, training: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = _compiled_training(TRAININGS[training], backend)
    with measuring(tmp_path, warmup=2) as session:
        _watch_a_device(session, monkeypatch)
        measured = _compiled_training(TRAININGS[training], backend)
    assert measured == bare
    assert bare[1], "nothing was compiled, so nothing is proved"
    assert facts(tmp_path, "window")
    assert facts(tmp_path, "note") == []


@pytest.mark.parametrize("training", TRAININGS)
def test_no_graph_is_compiled_again_when_we_let_go(
    tmp_path: Path, training: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = _compiled_training(TRAININGS[training], "eager")
    with measuring(tmp_path, warmup=2, steps=8) as session:
        _watch_a_device(session, monkeypatch)
        measured = _compiled_training(TRAININGS[training], "eager")
    if training == "optimizer_step":  # torch's own loop over hooks is guarded by their number
        del bare[2]["graph_break"], measured[2]["graph_break"]
    assert measured == bare
    assert len(facts(tmp_path, "detached")) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)
@pytest.mark.usefixtures("group_of_one")
def test_collectives_inside_a_graph_stay_inside(tmp_path: Path, backend: str) -> None:
    bare = _compiled_training(collective, backend)
    with measuring(tmp_path, warmup=2):
        measured = _compiled_training(collective, backend)
    assert measured == bare
    assert len(bare[1]) == 1
    assert facts(tmp_path, "note") == []


def test_what_was_compiled_before_the_measurement_is_not_compiled_again(tmp_path: Path) -> None:
    graphs = Graphs("eager")
    inner = _model()
    outer = torch.compile(inner, fullgraph=True, backend=graphs)
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.1)

    def train() -> None:
        for (batch,) in _loader():
            optimizer.zero_grad()
            outer(batch).square().mean().backward()
            optimizer.step()

    train()
    before = len(graphs.operators)
    with torch._dynamo.config.patch(error_on_recompile=True):
        with measuring(tmp_path, warmup=2) as session:
            train()
            session.let_go("the test says so")
        train()
    assert len(graphs.operators) == before == 1


def test_a_compiled_model_is_traced_and_told_as_such(tmp_path: Path) -> None:
    with measuring(tmp_path, warmup=2):
        _compiled_training(model, "eager")
    assert all(fact["steps"] >= 1 for fact in facts(tmp_path, "window"))
    (told,) = facts(tmp_path, "model")
    assert told["compiled"] is True
