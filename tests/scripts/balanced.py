"""Planted: nothing. Loading, Python and logging take a quarter of the computing time each.

True verdict: no bottleneck. The three measure themselves by the computing of the step before, on
one thread, so that the shares (57 % and three times 14 %) are the same on any machine.
"""

import logging
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PART = 0.25


class Pace:
    """How long the last step computed, in seconds."""

    computing_s = 0.02

    def keep_busy(self) -> None:
        until = time.perf_counter() + PART * self.computing_s
        while time.perf_counter() < until:
            pass


class Paced(Dataset):
    def __init__(self, pace: Pace) -> None:
        self.pace, self.batch = pace, torch.randn(1024, 768)

    def __len__(self) -> int:
        return 90

    def __getitem__(self, index: int) -> torch.Tensor:
        self.pace.keep_busy()
        return self.batch


class PacedHandler(logging.Handler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def emit(self, record: logging.LogRecord) -> None:
        self.pace.keep_busy()


def check_the_batch(pace: Pace) -> None:
    pace.keep_busy()


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pace = Pace()
    log = logging.getLogger("training")
    log.setLevel(logging.INFO)
    log.addHandler(PacedHandler(pace))
    model = nn.Sequential(nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 768), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batch in DataLoader(Paced(pace), batch_size=None):
        check_the_batch(pace)
        began = time.perf_counter()
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.computing_s = time.perf_counter() - began
        log.info("one step more")
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
