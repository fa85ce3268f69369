"""A small training for a GPU that is slow in one known way, and measures that way by itself.

    python benchmarks/gpu_training.py --way pageable --truth truth.json

Started by `benchmarks/gpu.py`, bare and under `speedprof run`. What the device spends is timed
with CUDA events of the script's own, read at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

WIDTH, ROWS = 2_048, 512
COPIED = 16 << 20  # bytes of a batch where copies are the point
SMALL, KERNELS = 64, 400  # width and number of the kernels that are too short to launch in time
BURN_SIDE = 4_096
WAYS = (
    "plain", "pageable", "pinned", "item", "launch", "compile", "bf16", "loader-sleep",
    "host-sleep", "compute-burn",
)  # fmt: skip


class Batches(Dataset[Tensor]):
    """Ready batches; `ms` is how long one takes to come."""

    def __init__(self, length: int, elements: int, ms: float) -> None:
        self._length, self._ms = length, ms
        self._batch = torch.randn(ROWS, elements // ROWS)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Tensor:
        if self._ms:
            time.sleep(self._ms / 1e3)
        return self._batch


class DeviceTimes:
    """Intervals on the device's own clock."""

    def __init__(self, device: torch.device) -> None:
        self._on = device.type == "cuda"
        self._intervals: list[tuple[Any, Any]] = []

    @contextlib.contextmanager
    def interval(self) -> Iterator[None]:
        if not self._on:
            yield
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._intervals.append((begin, end))

    def ms(self) -> list[float]:
        if self._on:
            torch.cuda.synchronize()
        return [begin.elapsed_time(end) for begin, end in self._intervals]


class Training:
    """The training; one step is `step`, whatever the way."""

    def __init__(self, way: str, *, steps: int, ms: float, device: torch.device) -> None:
        torch.manual_seed(0)
        self.way, self.ms, self.device = way, ms, device
        width = SMALL if way == "launch" else WIDTH
        elements = COPIED // 4 if way in ("pageable", "pinned") else ROWS * width
        hidden: list[nn.Module] = []
        for _ in range(KERNELS // 8 if way == "launch" else 4):
            hidden += [nn.Linear(width, width), nn.ReLU()]
        self.model = nn.Sequential(*hidden, nn.Linear(width, 10)).to(device)
        self.trained: Callable[[Tensor], Tensor] = (
            torch.compile(self.model) if way == "compile" else self.model
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)
        self.width, self.special = width, DeviceTimes(device)
        self.ends: list[int] = []
        batches = Batches(steps, elements, ms if way == "loader-sleep" else 0.0)
        pinned = way != "pageable" and device.type == "cuda"
        self.loader = DataLoader(batches, batch_size=None, pin_memory=pinned)
        self.burning = torch.randn(BURN_SIDE, BURN_SIDE, device=device)
        self.burns = self._burns(ms) if way == "compute-burn" and ms else 0

    def _burns(self, ms: float) -> int:
        """Return how many products of large matrices take `ms` on this device."""
        times = DeviceTimes(self.device)
        for _ in range(12):
            with times.interval():
                self.burning @ self.burning
        measured = sorted(times.ms())
        return max(1, round(ms / measured[len(measured) // 2])) if measured else 1

    def run(self) -> None:
        for batch in self.loader:
            self.step(batch)
            self.ends.append(time.perf_counter_ns())
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def step(self, batch: Tensor) -> None:
        copying = self.way in ("pageable", "pinned")
        with self.special.interval() if copying else contextlib.nullcontext():
            values = batch.to(self.device, non_blocking=self.way != "pageable")
        values = values.flatten()[: ROWS * self.width].view(ROWS, self.width)
        if self.burns:
            with self.special.interval():
                for _ in range(self.burns):
                    self.burning @ self.burning
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.way == "bf16")
        with half:
            loss = self.trained(values).float().square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.way == "item":
            loss.item()  # the line that waits
        if self.way == "host-sleep":
            if self.device.type == "cuda":
                torch.cuda.synchronize()  # or the device would work on meanwhile
            time.sleep(self.ms / 1e3)


def waiting_line() -> int:
    """Return the number of the line that synchronises in the way "item"."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith("# the line that waits"))


def recompilations() -> int | None:
    """Return how many graphs torch.compile has made, None where it made none."""
    from torch._dynamo.utils import counters

    return counters["stats"].get("unique_graphs")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on a GPU, slow in one known way.")
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--ms", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--truth", type=Path, required=True)
    options = parser.parse_args()
    device = torch.device(options.device)
    training = Training(options.way, steps=options.steps, ms=options.ms, device=device)
    training.run()
    truth = {
        "ends": training.ends,
        "special_ms": training.special.ms(),
        "graphs": recompilations() if options.way == "compile" else None,
    }
    options.truth.write_text(json.dumps(truth), encoding="utf-8")


if __name__ == "__main__":
    main()
