"""A small training with one known stall a step, which it times itself: the truth for a report.

    python benchmarks/stalls.py --stall host-sleep --ms 5 --truth truth.json

The training's own work is kept below a millisecond, so that its jitter does not hide the stall.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

WIDTH, BATCH = 192, 16
EVALUATE_EVERY = 4  # steps; then the stall of four steps at once
LEADING_MS = 6.0  # least time of a worker's batch, so that two workers are always waited for
FLOATS_PER_MS = 400_000  # about what gloo sums over the loopback in a millisecond
SIDE = 128  # of the matrices multiplied to be busy, 0.05 ms each


class Clock:
    """Times what the training thread spends in the stalled places, by phase, a number a step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []  # ms
        self.ends: list[int] = []
        self._sums: dict[str, float] = {}
        self._depth = 0

    @contextlib.contextmanager
    def watching(self, phase: str) -> Iterator[None]:
        begin = time.perf_counter_ns()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:  # an evaluation is one, whatever it computes
                spent = (time.perf_counter_ns() - begin) / 1e6
                self._sums[phase] = self._sums.get(phase, 0.0) + spent

    def step(self) -> None:
        self.steps.append(self._sums)
        self.ends.append(time.perf_counter_ns())
        self._sums = {}


CLOCK = Clock()


def sleep(ms: float) -> None:
    time.sleep(ms / 1e3)


def spin(ms: float) -> None:
    until = time.perf_counter_ns() + int(ms * 1e6)
    while time.perf_counter_ns() < until:
        pass


@torch.library.custom_op("stalls::burn", mutates_args=())
def burn(values: Tensor, ms: float) -> Tensor:
    """Return a copy after `ms` of arithmetic: one operator that is busy for as long."""
    with CLOCK.watching("compute"):
        until, factor = time.perf_counter_ns() + int(ms * 1e6), torch.ones(SIDE, SIDE)
        while time.perf_counter_ns() < until:
            torch.mm(factor, factor)
    return values.clone()


class Burn(torch.autograd.Function):
    """An operator that takes its time forward or backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, forward: float, backward: float) -> Tensor:
        ctx.backward_ms = backward
        return burn(values, forward) if forward else values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        slow = burn(gradient, ctx.backward_ms) if ctx.backward_ms else gradient
        return slow, None, None


class Samples(Dataset[tuple[Tensor, int]]):
    """Vectors; the first sample of a batch is the slow one."""

    def __init__(self, length: int, stall: Callable[[], None]) -> None:
        self._length, self._stall = length, stall
        self._values = torch.randn(64, WIDTH)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index % BATCH == 0:
            self._stall()
        return self._values[index % 64], index % 10


class SlowFile(io.BytesIO):
    """A file on a disk that takes its time, once a checkpoint."""

    def __init__(self, ms: float) -> None:
        super().__init__()
        self._ms = ms

    def write(self, content: Any) -> int:
        ms, self._ms = self._ms, 0.0
        sleep(ms)
        return super().write(content)


class Training:
    """A training with one stalled place; each place asks whether it is the one."""

    def __init__(self, stall: str, ms: float, steps: int) -> None:
        torch.manual_seed(0)
        self.stall, self.ms, self.steps = stall, ms, steps
        self.model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, 10)
        parameters = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3)
        self.gradients = torch.zeros(16_384)
        self.payload = torch.zeros(1 + int(ms * FLOATS_PER_MS))

    def run(self) -> None:
        batches, watched = self.batches(), self.stall.startswith(("loader", "generator"))
        while True:
            with CLOCK.watching("data_loading") if watched else contextlib.nullcontext():
                batch = next(batches, None)
            if batch is None:
                return
            self.step(*batch)
            CLOCK.step()

    def step(self, values: Tensor, labels: Tensor) -> None:
        hidden = self.model(values)
        if self.stall.startswith("compute"):
            forward = self.stall == "compute-forward"
            hidden = Burn.apply(hidden, self.ms * forward, self.ms * (not forward))  # type: ignore[no-untyped-call]
        loss = nn.functional.cross_entropy(self.head(hidden), labels)
        self.optimizer.zero_grad()
        loss.backward()
        if self.stall.startswith("communication"):
            self.exchange()
        if self.stall in ("host-sleep", "host-busy") and self.ms:
            with CLOCK.watching("host"):
                (sleep if self.stall == "host-sleep" else spin)(self.ms)
        self.optimizer.step()
        if self.stall.startswith("outside"):
            with CLOCK.watching("outside"):
                self.between_steps(values)

    def exchange(self) -> None:
        """Sum over ranks, as DistributedDataParallel would."""
        if self.stall == "communication-straggler" and dist.get_rank() == 1:
            with CLOCK.watching("host"):
                sleep(self.ms)
        with CLOCK.watching("communication"):
            dist.all_reduce(self.gradients)
            if self.stall == "communication-transfer":
                dist.all_reduce(self.payload)

    def between_steps(self, values: Tensor) -> None:
        if self.stall == "outside-checkpoint":
            torch.save(self.model.state_dict(), SlowFile(self.ms))
        elif len(CLOCK.ends) % EVALUATE_EVERY == 0:
            self.model.eval()
            with torch.no_grad():
                burn(self.model(values), EVALUATE_EVERY * self.ms)
            self.model.train()

    # -- batches

    def batches(self) -> Iterator[Any]:
        if self.stall.startswith("generator"):
            return self._generated()
        workers = 2 if self.stall.endswith("2-workers") else 0
        # two workers share the batches, so that each takes twice as long
        ms = 2 * (self.ms + LEADING_MS) if workers else self.ms
        act = spin if "busy" in self.stall else sleep
        slow = self.stall.startswith("loader")
        samples = Samples(self.steps * BATCH, functools.partial(act, ms) if slow else int)
        return iter(DataLoader(samples, batch_size=BATCH, num_workers=workers))

    def _generated(self) -> Iterator[Any]:
        act = spin if "busy" in self.stall else sleep
        values, labels = torch.randn(BATCH, WIDTH), torch.arange(BATCH) % 10
        for _ in range(self.steps):
            act(self.ms)
            yield values, labels


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with a known stall in every step.")
    parser.add_argument("--stall", required=True)
    parser.add_argument("--ms", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--truth", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        dist.init_process_group("gloo")
    Training(options.stall, options.ms, options.steps).run()
    rank = dist.get_rank() if ranks > 1 else 0
    truth = {"ends": CLOCK.ends, "steps": CLOCK.steps}
    options.truth.with_suffix(f".{rank}.json").write_text(json.dumps(truth), encoding="utf-8")
    if ranks > 1:
        dist.barrier()
        time.sleep(0.2)  # gloo aborts a process that ends while its threads let go of tensors
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
