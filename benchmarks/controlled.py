"""A training step as long as we want it: real forward, backward, optimizer and DataLoader.

    python benchmarks/controlled.py --rows 512 --workers 2 --steps 400

The number of operators is the same for every length: a batch of eight samples of `rows` vectors
each goes through a two-layer perceptron.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

WIDTH, BATCH = 128, 8
FIRST_GUESS = 256  # rows
CALIBRATIONS, CALIBRATION_STEPS = 4, 12


class Vectors(Dataset[tuple[Tensor, int]]):
    """Samples that cost next to nothing to make."""

    def __init__(self, rows: int, length: int) -> None:
        self._sample, self._length = torch.randn(rows, WIDTH), length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._sample, index % 10


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one loop needs."""

    loader: DataLoader[tuple[Tensor, int]]
    model: nn.Module
    optimizer: torch.optim.Optimizer


def build(rows: int, *, steps: int, workers: int = 0) -> Training:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    loader = DataLoader(Vectors(rows, steps * BATCH), batch_size=BATCH, num_workers=workers)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return Training(loader=loader, model=model, optimizer=optimizer)


def train(training: Training) -> list[int]:
    """Train on one pass over the loader; return when each step ended (perf_counter ns)."""
    ends, clock = [], time.perf_counter_ns
    model, optimizer = training.model, training.optimizer
    for vectors, labels in training.loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(vectors).mean(1), labels).backward()
        optimizer.step()
        ends.append(clock())
    return ends


def durations(ends: list[int]) -> list[int]:
    """Return how long each step but the first took, ns."""
    return [after - before for before, after in itertools.pairwise(ends)]


def calibrate(target_ms: float) -> int:
    """Return the rows whose step, without workers, comes close to `target_ms` on this machine."""
    rows = FIRST_GUESS
    for _ in range(CALIBRATIONS):
        rows = max(1, round(rows * target_ms / _step_ms(rows)))
    return rows


def _step_ms(rows: int) -> float:
    ends = train(build(rows, steps=CALIBRATION_STEPS))
    return statistics.median(durations(ends)) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Train for a while on steps of one length.")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(build(options.rows, steps=options.steps, workers=options.workers))


if __name__ == "__main__":
    main()
