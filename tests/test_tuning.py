"""When a remedy is kept: faster beyond noise, and its losses are what its safety promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from speedprof.mitigations.plan_files import Remedy, read
from speedprof.mitigations.tuning.candidates import advised, together
from speedprof.mitigations.tuning.decision import calm, decided, doubted, speedup, superfluous
from speedprof.mitigations.tuning.proof import FEWEST, prove

LOADING = """
import sys, time
import torch
from torch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self): return 4000
    def __getitem__(self, index):
        time.sleep(0.002)
        return torch.full((8,), float(index))

model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
for batch in DataLoader(Slow(), batch_size=8):
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    open("log.txt", "a").write(f"{loss.item()}\\n")
torch.save(model.state_dict(), "model.pt")
"""


def rows(
    mean_ms: float, *, spread: float = 0.02, count: int = 60, seed: int = 0
) -> NDArray[np.float64]:
    noise = np.random.default_rng(seed).normal(1.0, spread, count)
    return np.column_stack((mean_ms * noise, np.ones(count)))


def test_a_gain_beyond_doubt_is_decided_by_one_round_and_a_smaller_one_by_two() -> None:
    clear = speedup([rows(20.0)], [rows(10.0, seed=2)])
    assert clear.ratio == pytest.approx(2.0, rel=0.02)
    assert decided(clear, rounds=1) is True
    assert doubted(clear, rounds=1) is None  # where no prediction speaks for it
    assert doubted(clear, rounds=2) is True
    smaller = speedup([rows(20.0)], [rows(17.0, seed=2)])
    assert smaller.low > 1.1
    assert decided(smaller, rounds=1) is None  # one start of a script may differ by as much
    assert decided(smaller, rounds=2) is True


@pytest.mark.parametrize(("new_ms", "spread"), [(20.0, 0.02), (20.6, 0.3)])
def test_no_gain_is_given_up_as_soon_as_it_is_clear(new_ms: float, spread: float) -> None:
    found = speedup([rows(20.0)], [rows(new_ms, spread=spread, seed=2)])
    assert decided(found, rounds=1) is False


def test_a_plan_does_without_what_gains_nothing_beside_the_rest() -> None:
    nothing = speedup([rows(20.0)], [rows(20.1, seed=2)])
    some = speedup([rows(20.0)], [rows(18.0, seed=2)])
    assert superfluous(nothing, 1) is True
    assert superfluous(some, 1) is False
    unclear = speedup([rows(20.0, spread=0.4)], [rows(19.5, spread=0.4, seed=2)])
    assert unclear.low < 1.0 < unclear.high
    assert superfluous(unclear, 1) is None
    assert superfluous(unclear, 2) is False  # kept for its gain, and nobody showed that it is gone


def test_a_speedup_seen_from_the_other_side_is_its_inverse() -> None:
    found = speedup([rows(20.0)], [rows(10.0, seed=2)]).inverse
    again = speedup([rows(10.0, seed=2)], [rows(20.0)])
    assert (found.ratio, found.low, found.high) == pytest.approx(
        (again.ratio, again.low, again.high), rel=1e-6
    )


def test_trials_that_differ_from_start_to_start_widen_the_interval() -> None:
    steady = speedup([rows(20.0), rows(20.1, seed=1)], [rows(19.0, seed=2), rows(19.1, seed=3)])
    shaky = speedup([rows(20.0), rows(24.0, seed=1)], [rows(19.0, seed=2), rows(23.0, seed=3)])
    assert steady.low > 1.0
    assert shaky.low < 1.0
    assert decided(shaky, rounds=2) is None
    assert decided(shaky, rounds=3) is False


def test_a_gain_below_what_is_worth_a_line_is_not_kept() -> None:
    old = [rows(100.0, spread=0.001, seed=n) for n in range(2)]
    new = [rows(98.5, spread=0.001, seed=n + 2) for n in range(2)]
    assert decided(speedup(old, new), rounds=2) is False


def test_a_hiccup_of_the_machine_is_left_out_and_the_scripts_own_pause_is_not() -> None:
    pause, hiccup = rows(20.0), rows(20.1, seed=1)
    pause[20, 0] = 400.0
    hiccup[20, 0], hiccup[33, 0] = 410.0, 5000.0  # both pause at step 20, one hangs at 33
    first, second = calm([pause, hiccup])
    assert len(first) == 60
    assert len(second) == 59
    assert second[:, 0].max() == 410.0
    assert len(calm([hiccup])[0]) == 60  # alone, nobody can tell


LOSSES = [2.0 - 0.01 * step for step in range(40)]
NOISY = [loss + 0.2 * np.sin(7.0 * step) for step, loss in enumerate(LOSSES)]


def moved(by: float) -> list[float]:
    return [loss * (1.0 + by) for loss in LOSSES]


@pytest.mark.parametrize(
    ("safety", "new", "passed"),
    [
        ("exact", LOSSES, True),
        ("exact", moved(1e-12), False),
        ("exact", LOSSES[:20], True),
        ("rounding", moved(0.01), True),
        ("rounding", moved(0.1), False),
        ("reseeded", NOISY, True),
        ("reseeded", moved(0.5), False),
        ("exact", [float("nan")] * 40, False),
        ("rounding", [float("inf")] * 40, False),
        ("reseeded", LOSSES[: FEWEST - 1], None),
        ("exact", [], None),
    ],
)
def test_a_proof_is_what_the_safety_promises(
    safety: str, new: list[float], passed: bool | None
) -> None:
    found = prove(safety, LOSSES, new, again=LOSSES, other=NOISY)
    assert found.passed is passed, found.sentence


def test_a_script_that_does_not_repeat_itself_proves_no_more_than_it_repeats() -> None:
    found = prove("exact", LOSSES, moved(0.001), again=moved(0.0005), other=NOISY)
    assert found.passed is True
    assert "are allowed" in found.sentence


def test_a_plan_names_the_values_that_were_tried() -> None:
    told = {"num_workers": 2, "unknown": 3}
    assert advised("loader-workers", told).parameters == {"num_workers": 2}
    assert advised("pin-memory", {}).parameters == {"pin_memory": True}
    assert advised("channels-last", {}).parameters == {}


def test_a_remedy_with_another_value_takes_the_place_of_the_first() -> None:
    workers = Remedy(name="loader-workers", parameters={"num_workers": 4})
    plan = (Remedy(name="tf32", parameters={}), workers)
    again = together(plan, Remedy(name="loader-workers", parameters={"num_workers": 3}))
    assert [one.name for one in again] == ["tf32", "loader-workers"]
    assert again[1].parameters["num_workers"] == 3


@pytest.mark.alone
def test_tune_finds_workers_for_a_slow_loader_and_leaves_the_users_files_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.py").write_text(LOADING)
    command = [sys.executable, "-m", "speedprof", "tune", "--budget", "1.5", "--json"]
    command += ["--target-safety", "reseeded", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    kept = [one["name"] for one in told["tried"] if one["kept"]]
    assert "loader-workers" in kept, told
    assert told["speedup"]["low"] > 1.1
    plan = read(next(tmp_path.glob("speedprof-runs/tune-*/plan.toml")))
    assert plan.remedies[0].name == "loader-workers"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speedprof-runs", "train.py"]


@pytest.mark.slow
def test_a_script_that_fails_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nraise SystemExit('no data')\n")
    command = [sys.executable, "-m", "speedprof", "tune", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the script cannot be tuned" in done.stderr
    assert "no data" in done.stderr
    assert "Traceback" not in done.stderr
