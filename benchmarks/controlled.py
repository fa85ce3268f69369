"""A training step as long as we want it: real forward, backward, optimizer and DataLoader.

    python benchmarks/controlled.py --rows 64 --width 512 --workers 2 --steps 400

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

BATCH, CLASSES = 8, 10
# Wide layers make long steps out of little memory. Batches of many megabytes would be mapped and
# unmapped at every step, which varies by more than what is to be measured.
WIDTHS = {1.0: 128, 10.0: 512, 1_000.0: 1_536}  # up to so many ms -> width of the layers
FIRST_GUESS, MOST_ROWS = 64, 1 << 18
CALIBRATIONS, CALIBRATION_STEPS = 4, 12


@dataclass(frozen=True)
class Size:
    """How much work a step is."""

    rows: int  # of a sample
    width: int  # of the rows, and of the layers


class Vectors(Dataset[tuple[Tensor, int]]):
    """Samples that cost next to nothing to make."""

    def __init__(self, size: Size, length: int) -> None:
        self._sample, self._length = torch.randn(size.rows, size.width), length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._sample, index % CLASSES


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one loop needs."""

    loader: DataLoader[tuple[Tensor, int]]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device


def build(size: Size, *, steps: int, workers: int = 0, device: str = "cpu") -> Training:
    torch.manual_seed(0)
    width = size.width
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES))
    model = model.to(device)
    loader = DataLoader(Vectors(size, steps * BATCH), batch_size=BATCH, num_workers=workers)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return Training(loader=loader, model=model, optimizer=optimizer, device=torch.device(device))


def train(training: Training) -> tuple[list[int], list[int]]:
    """Train on one pass over the loader; return the wall and CPU clock at each step's end, ns.

    On a GPU the host waits for it at the end of each step.
    """
    ends: list[int] = []
    cpu: list[int] = []
    clock, cpu_clock = time.perf_counter_ns, time.thread_time_ns
    model, optimizer, device = training.model, training.optimizer, training.device
    for batch in training.loader:
        vectors, labels = (part.to(device) for part in batch) if device.type == "cuda" else batch
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(vectors).mean(1), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        ends.append(clock())
        cpu.append(cpu_clock())
    return ends, cpu


def durations(ends: list[int]) -> list[int]:
    """Return how long each step but the first took, ns."""
    return [after - before for before, after in itertools.pairwise(ends)]


def calibrate(target_ms: float, device: str = "cpu") -> Size:
    """Return the size whose step, without workers, comes close to `target_ms` on this machine."""
    torch.set_num_threads(1)
    size = Size(FIRST_GUESS, next(width for most, width in WIDTHS.items() if target_ms <= most))
    for _ in range(CALIBRATIONS):
        rows = round(size.rows * target_ms / _step_ms(size, device))
        size = Size(min(MOST_ROWS, max(1, rows)), size.width)
    return size


def _step_ms(size: Size, device: str) -> float:
    ends, _ = train(build(size, steps=CALIBRATION_STEPS, device=device))
    return statistics.median(durations(ends)) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Train for a while on steps of one length.")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = Size(options.rows, options.width)
    train(build(size, steps=options.steps, workers=options.workers))


if __name__ == "__main__":
    main()
