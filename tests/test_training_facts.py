"""What a training is found to be made of: its model, its batches, its types, its gradients."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speedprof.profiler import reading, run_parts
from speedprof.profiler.batch_facts import LOOKED_AT, BatchFacts, trailing_padding
from speedprof.profiler.graph_facts import Graph
from speedprof.profiler.model_facts import identity, inside
from speedprof.tests.in_process import facts, measuring

torch = pytest.importorskip("torch")
nn = torch.nn

Forward = Callable[[Any, Any], Any]


def plain(model: Any, batch: Any) -> Any:
    return model(batch).float().sum()


def autocast(model: Any, batch: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return plain(model, batch)


def recomputed(model: Any, batch: Any, *, reentrant: bool = False) -> Any:
    from torch.utils.checkpoint import checkpoint

    return checkpoint(model, batch.requires_grad_(), use_reentrant=reentrant).sum()


def reentrant(model: Any, batch: Any) -> Any:
    return recomputed(model, batch, reentrant=True)


def layers() -> Any:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def train(
    folder: Path, forward: Forward = plain, *, zero: Callable[[Any], None] | None = None
) -> dict[str, Any]:
    """Train a few steps under measurement; return the last fact of each kind."""
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with measuring(folder, windows=False):
        for batch in torch.utils.data.DataLoader(torch.randn(26, 8), batch_size=4):
            forward(model, batch).backward()
            optimizer.step()
            (zero or type(optimizer).zero_grad)(optimizer)
    kinds = ("model", "flags", "batch", "gradients", "note")
    return {kind: (facts(folder, kind) or [None])[-1] for kind in kinds}


def graph(loss: Any) -> Graph:
    seen = Graph()
    seen.look(loss)
    return seen


def test_a_models_modules_are_counted_by_class() -> None:
    model = layers()
    model[0].weight.requires_grad_(False)
    found = inside(model)
    assert found["modules"] == {"Sequential": 1, "Linear": 2, "ReLU": 1}
    assert found["trainable"] == 8 + 16 + 2
    assert found["exchange"] is None


class Held(nn.Module):
    """A model that has a part called `module`, and is no wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.module = layers()


@pytest.mark.usefixtures("alone")
def test_a_model_is_named_as_its_author_would() -> None:
    parallel = nn.parallel.DistributedDataParallel
    for model in (torch.compile(parallel(layers())), parallel(torch.compile(layers()))):
        assert identity(model) == {
            "name": "Sequential",
            "compiled": True,
            "wrapped": "DistributedDataParallel",
        }
    assert identity(Held()) == {"name": "Held", "compiled": False, "wrapped": None}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: nn.Conv2d(3, 8, 3), False),
        (lambda: nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last), True),
        (lambda: nn.Conv2d(3, 8, 1), None),  # both layouts are the same bytes
        (lambda: nn.Linear(8, 8), None),
    ],
)
def test_the_layout_of_convolutions_is_told_where_layouts_differ(
    model: Callable[[], Any], expected: bool | None
) -> None:
    assert inside(model())["channels_last"] is expected


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (lambda: [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)], 1),
        (lambda: [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)], 0),
        (lambda: [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)], 0),
    ],
)
def test_a_bias_that_a_batch_norm_cancels_is_counted(
    chain: Callable[[], list[Any]], expected: int
) -> None:
    assert inside(nn.Sequential(*chain()))["biased_before_norm"] == expected


def test_large_sizes_that_are_no_multiples_of_eight_are_listed() -> None:
    model = nn.ModuleList([nn.Embedding(50257, 768), nn.Linear(768, 1001), nn.Linear(30, 7)])
    assert inside(model)["odd_dims"] == [1001, 50257]


def test_a_model_that_says_whether_it_checkpoints_is_believed() -> None:
    model = layers()
    assert inside(model)["checkpointed"] is None
    model[1].gradient_checkpointing = False
    assert inside(model)["checkpointed"] is False
    model[0].gradient_checkpointing = True
    assert inside(model)["checkpointed"] is True


@pytest.mark.parametrize(
    ("forward", "expected"),
    [(plain, "off"), (autocast, "bfloat16"), (lambda model, x: (x * model[0].bias).sum(), None)],
)
def test_mixed_precision_is_read_from_the_graph(forward: Forward, expected: str | None) -> None:
    assert graph(forward(layers(), torch.randn(4, 8))).autocast() == expected


def test_a_model_wholly_in_half_precision_is_not_mixed() -> None:
    model = layers().to(torch.bfloat16)
    assert graph(plain(model, torch.randn(4, 8, dtype=torch.bfloat16))).autocast() == "off"


def test_layers_computed_again_in_backward_are_seen() -> None:
    batch = torch.randn(4, 8)
    assert graph(reentrant(layers(), batch)).checkpointed() is True
    hooks = recomputed(layers(), batch)
    plainly = graph(plain(layers(), batch)).checkpointed()
    if hasattr(torch._C._autograd.SavedTensor, "unpack_hook"):
        assert (graph(hooks).checkpointed(), plainly) == (True, False)
    else:
        assert (graph(hooks).checkpointed(), plainly) == (None, None)


class CompiledFunction(torch.autograd.Function):
    """Stands where torch.compile puts a node of this name for a whole model."""

    @staticmethod
    def forward(ctx: Any, values: Any) -> Any:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


def test_a_compiled_graph_keeps_its_inside_to_itself() -> None:
    seen = graph(CompiledFunction.apply(torch.randn(4, 8, requires_grad=True)).sum())
    assert (seen.autocast(), seen.checkpointed()) == (None, None)


def test_looking_at_a_graph_leaves_the_gradients_as_they_would_be() -> None:
    for forward in (plain, recomputed, reentrant):
        torch.manual_seed(0)
        model, batch = layers(), torch.randn(4, 8)
        loss = forward(model, batch)
        graph(loss)
        loss.backward()
        looked = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        forward(model, batch.detach()).backward()
        assert all(torch.equal(a, p.grad) for a, p in zip(looked, model.parameters(), strict=True))


@pytest.mark.parametrize(("forward", "expected"), [(plain, "off"), (autocast, "bfloat16")])
def test_a_training_tells_its_precision_once_it_trains(
    forward: Forward, expected: str, tmp_path: Path
) -> None:
    told = train(tmp_path, forward)
    assert told["flags"]["flags"]["autocast"] == expected
    assert told["note"] is None


def test_flags_that_a_script_sets_after_importing_torch_are_seen(tmp_path: Path) -> None:
    def choosing(model: Any, batch: Any) -> Any:
        torch.set_float32_matmul_precision("high")
        return plain(model, batch)

    try:
        train(tmp_path, choosing)
    finally:
        torch.set_float32_matmul_precision("highest")
    (path,) = tmp_path.glob("rank-*.rec")
    record = reading.read_record(path)
    process = record.facts["process"][0]["flags"]
    assert process["float32_matmul_precision"] == "highest"
    read = run_parts.flags(record)
    assert read["float32_matmul_precision"] == "high"
    assert read["cpu_capability"] == process["cpu_capability"]


def test_anomaly_detection_around_the_backward_pass_is_seen(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def detecting() -> Any:
        with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly():
            yield

    model, optimizer = layers(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with measuring(tmp_path, windows=False):
        for _ in range(2):
            with detecting():
                plain(model, torch.randn(4, 8)).backward()
            optimizer.step()
    assert facts(tmp_path, "flags")[-1]["flags"]["anomaly_detection"] == "True"


@pytest.mark.parametrize("keeps", [True, False])
def test_gradients_that_are_zeroed_in_place_are_told_from_those_let_go(
    keeps: bool, tmp_path: Path
) -> None:
    told = train(tmp_path, zero=lambda optimizer: optimizer.zero_grad(set_to_none=not keeps))
    assert told["gradients"]["kept"] is keeps


def test_gradients_that_nobody_zeroes_tell_nothing(tmp_path: Path) -> None:
    assert train(tmp_path, zero=lambda _: None)["gradients"] is None


def test_batches_are_described_by_the_first_and_counted_by_their_shapes(tmp_path: Path) -> None:
    seen = BatchFacts()
    for length in (5, 7, 5):
        seen.look({"x": torch.zeros(2, length), "y": [torch.zeros(2, dtype=torch.uint8)]})
    assert seen.fact(3) == {
        "number": 3,
        "shapes": [[2, 5], [2]],
        "dtypes": ["float32", "uint8"],
        "distinct": 2,
        "looked_at": 3,
        "padding": None,
    }
    told = train(tmp_path)["batch"]
    assert (told["shapes"], told["distinct"], told["looked_at"]) == ([[4, 8]], 1, 7)


@pytest.mark.parametrize(
    ("last", "distinct"),
    [
        ([3, 5], 1),
        ([4, 6], 2),  # longer rows
        ([5, 5], 2),  # more samples
    ],
)
def test_the_smaller_last_batch_of_an_epoch_is_no_other_shape(
    last: list[int], distinct: int
) -> None:
    seen = BatchFacts()
    for _epoch in range(2):
        for shape in ([4, 5], [4, 5], last):
            seen.look(torch.zeros(shape))
        seen.ended()
    fact = seen.fact(0)
    assert fact is not None
    assert fact["distinct"] == distinct


def test_batches_that_shrink_within_an_epoch_are_of_different_shapes() -> None:
    seen = BatchFacts()
    for samples in (4, 3, 2, 4):
        seen.look(torch.zeros(samples, 5))
    seen.ended()
    fact = seen.fact(0)
    assert fact is not None
    assert fact["distinct"] == 3


def test_batches_without_tensors_are_not_described() -> None:
    seen = BatchFacts()
    seen.look(["text", {"number": 3}, object()])
    assert seen.fact(0) is None
    assert seen.left == LOOKED_AT - 1


def test_padding_is_the_share_of_the_commonest_ending() -> None:
    ids = torch.tensor([[7, 8, 9, 4], [7, 8, 0, 0], [5, 0, 0, 0]])
    assert trailing_padding(ids) == 5
    seen = BatchFacts()
    seen.look((torch.ones_like(ids), ids))  # a mask comes first and is no row of ids
    fact = seen.fact(0)
    assert fact is not None
    assert fact["padding"] == pytest.approx(5 / 12)


@pytest.mark.parametrize(
    "batch",
    [
        lambda: torch.rand(4, 8),
        lambda: torch.eye(4, dtype=torch.int64),  # classes as 0 and 1
        lambda: torch.arange(9),
        lambda: torch.zeros(2, 3, 4, dtype=torch.int64),
        lambda: torch.zeros(3, 0, dtype=torch.int64),
        lambda: torch.ones(3, 4, dtype=torch.uint8),  # pixels
    ],
)
def test_what_is_no_row_of_ids_has_no_padding(batch: Callable[[], Any]) -> None:
    assert trailing_padding(batch()) is None


@pytest.fixture
def alone() -> Any:
    """Make a process group of one."""
    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("skipping", "share"), [(True, 0.75), (False, 0.0)])
def test_exchanges_left_out_while_accumulating_are_counted(
    skipping: bool, share: float, tmp_path: Path
) -> None:
    model = nn.parallel.DistributedDataParallel(layers(), bucket_cap_mb=7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with measuring(tmp_path, windows=False):
        for number, batch in enumerate(
            torch.utils.data.DataLoader(torch.randn(96, 8), batch_size=4), start=1
        ):
            updating = number % 4 == 0
            with model.no_sync() if skipping and not updating else contextlib.nullcontext():
                plain(model, batch).backward()
            if updating:
                optimizer.step()
                optimizer.zero_grad()
    (path,) = tmp_path.glob("rank-*.rec")
    (seen,) = run_parts.models(reading.read_record(path))
    assert seen.exchange is not None
    assert seen.exchange.unsynchronised == share
    assert seen.exchange.bucket_cap_mb == 7.0
    assert seen.exchange.find_unused_parameters is False
    assert seen.exchange.hooked is False
    assert facts(tmp_path, "flags")[-1]["flags"]["backend"] == "gloo"


class Moody:
    """Something in a batch that will not be asked for its shape."""

    dtype = "mood"

    @property
    def shape(self) -> Any:
        raise RuntimeError("not today")


def test_a_batch_that_cannot_be_described_costs_the_description_alone(tmp_path: Path) -> None:
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(
        torch.randn(24, 8), batch_size=4, collate_fn=lambda rows: (torch.stack(rows), Moody())
    )
    with measuring(tmp_path, windows=False):
        for batch, _ in loader:
            plain(model, batch).backward()
            optimizer.step()
    assert facts(tmp_path, "batch") == []
    (note,) = facts(tmp_path, "note")
    assert "probe 'batch' failed and was switched off: RuntimeError: not today" in note["text"]
    assert facts(tmp_path, "loader_use")[-1]["batches"] == 6
    assert facts(tmp_path, "model")[-1]["modules"]["Linear"] == 2


def test_nothing_of_the_training_is_kept_alive_by_what_was_seen(tmp_path: Path) -> None:
    with measuring(tmp_path, windows=False) as session:
        model = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        kept: list[weakref.ref[Any]] = []
        for batch in torch.utils.data.DataLoader(torch.randn(24, 8), batch_size=4):
            loss = plain(model, batch)
            loss.backward()
            optimizer.step()
            kept += [weakref.ref(loss), weakref.ref(batch)]
        assert [one() for one in kept[:-2]] == [None] * 10  # earlier steps
        kept += [weakref.ref(model), weakref.ref(model[0].weight)]
        del model, optimizer, loss, batch
        gc.collect()
        assert [one() for one in kept] == [None] * 14
        assert session.seen.backward.look is None


def test_variables_that_the_script_itself_looks_at_stay(tmp_path: Path) -> None:
    with measuring(tmp_path, windows=False):
        model = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        own = locals()
        plain(model, torch.randn(4, 8)).backward()
        optimizer.step()
    assert own["model"] is model
