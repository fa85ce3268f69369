"""What a training tells once it trains: its precision, flags, gradients, batches, exchanges."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from speedprof.profiler import reading, run_parts
from speedprof.tests.in_process import facts, measuring
from speedprof.tests.small_models import Forward, autocast, layers, plain


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


def test_batches_are_looked_at_as_they_come(tmp_path: Path) -> None:
    told = train(tmp_path)["batch"]
    assert (told["shapes"], told["distinct"], told["looked_at"]) == ([[4, 8]], 1, 7)


@pytest.mark.usefixtures("group_of_one")
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
