"""Once enough was measured nothing of ours is left, wherever in the training that happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speedprof.tests.in_process import digest, facts, measuring
from speedprof.tests.leaks import changes, snapshot

torch = pytest.importorskip("torch")

STEPS, WARMUP, LAST = 6, 2, 24  # measured, warm-up, trained in all
DETACHED = STEPS + WARMUP + 6  # a step may be known to have ended only a few later


def _model() -> Any:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))


def _loader(**keywords: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    data = torch.utils.data.TensorDataset(torch.randn(4 * LAST, 8, generator=generator))
    shuffled = {"batch_size": 4, "shuffle": True, "generator": torch.Generator().manual_seed(5)}
    return torch.utils.data.DataLoader(data, **shuffled, **keywords)


def _update(model: Any, optimizer: Any, batch: Any) -> None:
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()


def by_loader(after_step: Callable[[int], None], **keywords: Any) -> str:
    """Train one epoch; `after_step` is called with the steps done."""
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for done, (batch,) in enumerate(_loader(**keywords), 1):
        _update(model, optimizer, batch)
        after_step(done)
    return digest(model)


def by_two_epochs(after_step: Callable[[int], None], **keywords: Any) -> str:
    model, loader, done = _model(), _loader(**keywords), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for (batch,) in loader:
            _update(model, optimizer, batch)
            done += 1
            after_step(done)
    return digest(model)


def without_loader(after_step: Callable[[int], None]) -> str:
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for done in range(1, LAST + 1):
        _update(model, optimizer, torch.randn(4, 8))
        after_step(done)
    return digest(model)


def by_hand(after_step: Callable[[int], None]) -> str:
    """Update without an optimizer, so that backward alone tells the steps."""
    model = _model()
    for done in range(1, LAST + 1):
        model(torch.randn(4, 8)).square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.1)
                parameter.grad = None
        after_step(done)
    return digest(model)


def inside_backward(after_step: Callable[[int], None]) -> str:
    """Step one optimizer per parameter while backward is still running."""
    model, optimizers = _model(), {}
    for parameter in model.parameters():
        optimizers[parameter] = torch.optim.SGD([parameter], lr=0.1)

        def step(ready: Any) -> None:
            optimizers[ready].step()
            optimizers[ready].zero_grad()

        parameter.register_post_accumulate_grad_hook(step)
    for done in range(1, LAST + 1):
        model(torch.randn(4, 8)).square().mean().backward()
        after_step(done)
    return digest(model)


def by_closure(after_step: Callable[[int], None]) -> str:
    model = _model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    for done in range(1, LAST + 1):
        batch = torch.randn(4, 8)

        def closure(batch: Any = batch) -> Any:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        after_step(done)
    return digest(model)


def by_scaler(after_step: Callable[[int], None]) -> str:
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for done, (batch,) in enumerate(_loader(), 1):
        optimizer.zero_grad()
        scaler.scale(model(batch).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        after_step(done)
    return digest(model)


def with_evaluation(after_step: Callable[[int], None]) -> str:
    """Evaluate after every third step: `Module.train` is patched only meanwhile."""
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for done, (batch,) in enumerate(_loader(), 1):
        _update(model, optimizer, batch)
        if done % 3 == 0:
            model.eval()
            with torch.no_grad():
                model(batch)
            model.train()
        after_step(done)
    return digest(model)


LOOPS: dict[str, Callable[[Callable[[int], None]], str]] = {
    "loader": by_loader,
    "loader with workers": lambda after: by_loader(after, num_workers=1),
    "persistent workers": lambda after: by_two_epochs(
        after, num_workers=1, persistent_workers=True
    ),
    "no loader": without_loader,
    "no optimizer": by_hand,
    "optimizer inside backward": inside_backward,
    "closure": by_closure,
    "scaler": by_scaler,
    "evaluation": with_evaluation,
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("windows", [True, False], ids=["windows", "no windows"])
def test_training_goes_on_untouched_once_enough_was_measured(
    tmp_path: Path, loop: str, windows: bool
) -> None:
    train = LOOPS[loop]
    torch.manual_seed(1)
    bare = train(lambda _done: None)
    before, left = snapshot(), {}

    def look(done: int) -> None:
        if done in (DETACHED, LAST):
            left[done] = changes(before, snapshot())

    torch.manual_seed(1)
    with measuring(tmp_path, steps=STEPS, warmup=WARMUP, windows=windows):
        measured = train(look)
    assert left == {DETACHED: [], LAST: []}
    assert measured == bare
    assert len(facts(tmp_path, "detached")) == 1
    assert facts(tmp_path, "note") == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_to_the_end_leaves_nothing_and_changes_no_number(tmp_path: Path, loop: str) -> None:
    train = LOOPS[loop]
    torch.manual_seed(1)
    bare = train(lambda _done: None)
    before = snapshot()
    torch.manual_seed(1)
    with measuring(tmp_path, warmup=WARMUP):
        during = changes(before, snapshot())
        measured = train(lambda _done: None)
    assert during != []  # the test can see a patch at all
    assert changes(before, snapshot()) == []
    assert measured == bare
    assert facts(tmp_path, "note") == []


def test_ending_while_a_window_is_open_stops_the_profiler_and_its_thread(tmp_path: Path) -> None:
    before = snapshot()
    with measuring(tmp_path, warmup=WARMUP) as session:

        def end(done: int) -> None:
            if done == WARMUP + 2:
                assert session.windows.is_open
                session.let_go("the test says so")
                assert changes(before, snapshot()) == []

        by_loader(end)
    assert len(facts(tmp_path, "window")) == 1


def test_ending_between_two_batches_of_a_worker_loader_loses_no_batch(tmp_path: Path) -> None:
    loader = _loader(num_workers=2, persistent_workers=True)
    with measuring(tmp_path) as session:
        batches = iter(loader)
        first = [next(batches)[0] for _ in range(3)]
        session.let_go("the test says so")
        rest = [batch for (batch,) in batches]
        again = [batch for (batch,) in loader]
    assert len(first) + len(rest) == len(again) == LAST


def test_a_hook_of_the_scripts_own_may_end_the_measurement(tmp_path: Path) -> None:
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    with measuring(tmp_path) as session:

        def hook(_optimizer: Any, _arguments: Any, _keywords: Any) -> None:
            seen.append(len(seen))
            if len(seen) == 3:
                session.let_go("the test says so")

        optimizer.register_step_pre_hook(hook)
        optimizer.register_step_post_hook(hook)
        for _ in range(4):
            _update(model, optimizer, torch.randn(4, 8))
    assert len(seen) == 8


def test_hooks_that_the_script_put_beside_ours_survive_the_end_of_ours(tmp_path: Path) -> None:
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    seen = []

    def hook(_optimizer: Any, _arguments: Any, _keywords: Any) -> None:
        seen.append(len(seen))

    with measuring(tmp_path, steps=STEPS, warmup=WARMUP):
        theirs = [register_optimizer_step_pre_hook(hook), register_optimizer_step_post_hook(hook)]
        try:
            without_loader(lambda _done: None)
        finally:
            for handle in theirs:
                handle.remove()
    assert len(seen) == 2 * LAST
    assert len(facts(tmp_path, "detached")) == 1


def test_what_the_script_patched_over_ours_stays_and_ours_below_is_silent(tmp_path: Path) -> None:
    kept = torch.save
    with measuring(tmp_path) as session:
        ours = torch.save
        calls = []

        def theirs(*arguments: Any, **keywords: Any) -> Any:
            calls.append(arguments)
            return ours(*arguments, **keywords)

        torch.save = theirs
        try:
            by_loader(lambda _done: None)
            session.let_go("the test says so")
            assert torch.save is theirs
            written = session.tracker.row[:]
            torch.save({"a": 1}, tmp_path / "checkpoint.pt")
            assert session.tracker.row == written
        finally:
            torch.save = kept
    assert len(calls) == 1
    assert [fact["text"] for fact in facts(tmp_path, "note")] == [
        "torch.save was changed by somebody else meanwhile; theirs stays"
    ]
