"""Whatever happens in a trial is a result: tuning goes on, and keeps what is proved by then."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from speedprof.mitigations.plan_files import Remedy, read
from speedprof.mitigations.tuning.outcome import save
from speedprof.mitigations.tuning.trial import Length, Trials
from speedprof.mitigations.tuning.tuned import NO_TIME, Order, Tuned
from speedprof.mitigations.tuning.tuner import Tuner
from speedprof.profiler import interpreter
from speedprof.profiler.errors import SpeedprofError

SCRIPT = """
import os, signal, time
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

class Touchy(Dataset):
    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        if get_worker_info() is not None:
            IN_WORKER
        time.sleep(0.002)
        return torch.full((8,), float(index % 7))

model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
for step, batch in enumerate(DataLoader(Touchy(), batch_size=8)):
    if step == 3 and torch.get_float32_matmul_precision() == "high":
        UNDER_TF32
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
SHORT = Length(steps=16, least_s=0.5, most_s=4.0)
TF32 = (Remedy(name="tf32", parameters={}),)
HANGS, FINE = "time.sleep(3600)", "pass"


def nothing(_told: str) -> None:
    """Hear how far a trial is."""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., interpreter.Target]:
    """Return a maker of scripts that do something of their own in workers."""
    monkeypatch.chdir(tmp_path)

    def made(
        in_worker: str = FINE, *, under_tf32: str = FINE, samples: int = 80_000
    ) -> interpreter.Target:
        text = SCRIPT.replace("IN_WORKER", in_worker).replace("UNDER_TF32", under_tf32)
        text = text.replace("SAMPLES", str(samples))
        (tmp_path / "train.py").write_text(text)
        return interpreter.script(["train.py"], sys.executable)

    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("under_it", "said"),
    [
        (HANGS, "it was ended at its limit of 8 s"),
        ("raise MemoryError('no room for the sample')", "no room for the sample"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL"),
    ],
)
def test_a_trial_that_hangs_fails_or_is_killed_says_so(
    tmp_path: Path, script: Callable[..., interpreter.Target], under_it: str, said: str
) -> None:
    trials = Trials(
        target=script(under_tf32=under_it), folder=tmp_path, length=SHORT, tell=nothing
    )
    trial = trials.run(TF32, "tf32", limit_s=8.0 if under_it == HANGS else 60.0)
    assert said in (trial.problem or "")
    assert trial.step_ms is None
    well = trials.run((), "without it", limit_s=60.0)
    assert well.problem is None
    assert len(well.losses) >= SHORT.steps


def tuner(
    target: interpreter.Target,
    folder: Path,
    *,
    tell: Callable[[str], None] = nothing,
    limit_s: float = 60.0,
    **changes: object,
) -> Tuner:
    length = Length(steps=16, least_s=0.5, most_s=4.0, limit_s=limit_s)
    order: dict[str, object] = {"target": target, "parent": folder, "length": length}
    return Tuner(Order(**(order | {"budget_s": 150.0} | changes)), tell)  # type: ignore[arg-type]


def by_name(tuned: Tuned) -> dict[str, str]:
    return {one.remedy.name: one.why for one in tuned.tried}


@pytest.mark.slow
def test_tuning_goes_on_after_a_remedy_under_which_the_script_hangs(
    tmp_path: Path, script: Callable[..., interpreter.Target]
) -> None:
    tuned = tuner(script(HANGS), tmp_path, limit_s=25.0, safety="reseeded").run()
    assert "it was ended at its limit" in by_name(tuned)["loader-workers"]
    assert tuned.plan == ()
    assert tuned.ended.startswith("no further remedy")


@pytest.mark.alone
def test_an_interrupted_tuning_keeps_what_is_proved_by_then(
    tmp_path: Path, script: Callable[..., interpreter.Target]
) -> None:
    def interrupt(told: str) -> None:
        if "measure again" in told:
            raise KeyboardInterrupt

    tuned = tuner(script(), tmp_path, tell=interrupt).run()
    assert tuned.ended == "interrupted"
    assert [one.name for one in tuned.plan] == ["loader-workers"]
    assert tuned.total is None
    plan = save(tuned, machine=None, torch=None)
    assert plan is not None
    assert read(plan).remedies[0].name == "loader-workers"
    running = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not any("train.py" in word for command in running for word in command)


@pytest.mark.slow
def test_what_is_less_safe_than_asked_is_listed_and_not_tried(
    tmp_path: Path, script: Callable[..., interpreter.Target]
) -> None:
    tuned = tuner(script(), tmp_path, safety="exact").run()
    why = by_name(tuned)["loader-workers"]
    assert why == "not tried: reseeded, beyond exact; --allow loader-workers lets it be tried"
    assert "loader-workers" not in [one.name for one in tuned.plan]


@pytest.mark.slow
def test_a_budget_that_ends_says_what_was_not_tried(
    tmp_path: Path, script: Callable[..., interpreter.Target]
) -> None:
    tuned = tuner(script(), tmp_path, budget_s=20.0).run()
    assert tuned.ended == NO_TIME
    assert tuned.plan == tuple(one.remedy for one in tuned.tried if one.kept)
    assert all(one.why for one in tuned.tried if not one.kept)


@pytest.mark.slow
def test_a_script_with_too_few_steps_is_told_how_many_it_made(
    tmp_path: Path, script: Callable[..., interpreter.Target]
) -> None:
    with pytest.raises(SpeedprofError, match=r"made 6 training steps, .*longer"):
        tuner(script(samples=48), tmp_path).run()


@pytest.mark.slow
def test_a_script_that_needs_longer_than_the_budget_is_told_so(
    tmp_path: Path, script: Callable[..., interpreter.Target]
) -> None:
    with pytest.raises(SpeedprofError, match="limit of 2 s; --budget MINUTES gives it more"):
        tuner(script(), tmp_path, budget_s=2.0).run()
